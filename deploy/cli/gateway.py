"""`rankfleet coordinator init` and `up`: makes and runs the gateway of an enrolled fleet."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli import fleet
from deploy.cli.options import add_log

if TYPE_CHECKING:
    from coordinator.enrolment.broker_config import Mosquitto
    from coordinator.enrolment.folder import FleetFolder
    from coordinator.enrolment.opening import Fleet
    from coordinator.enrolment.tls import HttpsServer
    from coordinator.web.service import LivePage

LOGGER = logging.getLogger("rankfleet.gateway")
_INIT = """\
Makes the gateway of a fleet in FOLDER: certificate authority, certificates, the broker's configuration, the rounds'
configuration, a systemd unit, and the first admin token, which is shown once. Done again, it changes nothing that is
whole: it makes what is missing, renews certificates that are about to end, and says what it did. Everything belongs to
the folder's owner, who also runs it. docs/gateway.md says what each file is.
"""
_UP = """\
Runs the gateway of FOLDER in the foreground: the broker (Mosquitto), the enrolment service (HTTPS), the rounds where
coordinator.toml has pack and classes, and the live page. What fails is started again. Ctrl-C, or SIGTERM, ends all in
order.
"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands to those of `rankfleet coordinator`."""
    made = commands.add_parser("init", help="make the gateway of a fleet", description=_INIT)
    made.add_argument("folder", type=Path, metavar="FOLDER", help="the fleet's folder")
    made.add_argument("--fleet", metavar="NAME", help="the fleet's name")
    made.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST",
        help="a name or address under which boards reach this gateway; may come again, boards use the first",
    )
    made.add_argument("--broker-port", type=int, metavar="PORT", help="the broker's port (8883)")
    made.add_argument("--enrolment-port", type=int, metavar="PORT", help="the enrolment service's port (8443)")
    made.add_argument("--web-port", type=int, metavar="PORT", help="the live page's port, on loopback (8480)")
    made.add_argument("--pack", type=Path, metavar="PACK", help="the model pack to train")
    made.add_argument("--classes", nargs="+", default=[], metavar="CLASS", help="the labels, two or more")
    made.set_defaults(run=init)
    started = commands.add_parser("up", help="run the gateway of a fleet", description=_UP)
    fleet.add_folder(started)
    add_log(started)
    started.set_defaults(run=up)


def init(args: argparse.Namespace) -> int:
    """Makes or mends a gateway, and says what was done.

    Raises as `coordinator.enrolment.founding.found`.
    """
    from coordinator.enrolment.broker_config import installed  # noqa: PLC0415 (a help text needs none of it)
    from coordinator.enrolment.folder import FleetFolder  # noqa: PLC0415
    from coordinator.enrolment.founding import Wish, found  # noqa: PLC0415

    folder = FleetFolder(args.folder.resolve())
    ports = (args.broker_port, args.enrolment_port, args.web_port)
    wish = Wish(args.fleet, tuple(args.host), args.pack, tuple(args.classes), *ports)
    command = (*_rankfleet(), "coordinator", "up", str(folder.root))
    founded = found(folder, wish, installed(), command, fleet.now())
    for line in founded.done or ("nothing to do: everything is whole",):
        print(line)
    if founded.admin_token is not None:
        print(f"\nAdmin token, shown this once: {founded.admin_token}\n")
    if founded.done:
        print(_next_steps(folder))
    return 0


def up(args: argparse.Namespace) -> int:
    """Runs a gateway until it is interrupted.

    Raises as `coordinator.enrolment.gateway.Gateway.run`.
    """
    from coordinator.enrolment.broker_config import installed  # noqa: PLC0415
    from coordinator.enrolment.gateway import Gateway  # noqa: PLC0415
    from coordinator.enrolment.opening import enrolment_service  # noqa: PLC0415
    from coordinator.enrolment.rollout_store import RolloutDesk  # noqa: PLC0415
    from coordinator.enrolment.services import Broker, Rounds  # noqa: PLC0415
    from coordinator.web.service import LivePage  # noqa: PLC0415
    from edge_agent.wire import logs  # noqa: PLC0415
    from edge_agent.wire.folder_lock import only_one  # noqa: PLC0415

    served = fleet.opened(args.folder)
    folder, settings = served.folder, served.settings
    mosquitto = installed()
    logs.concern(fleet=settings.fleet)
    say = _say if args.log == "text" else LOGGER.info
    with only_one(folder.root, "gateway"):
        _mend(served, mosquitto, say)
        say(f"fleet {settings.fleet}: boards reach the broker at {settings.hosts[0]}:{settings.broker_port}")
        form = ("--log", args.log, "--log-level", args.log_level)
        rounds = Rounds(folder, (*_rankfleet(), "coordinator", "run", str(folder.coordinator_config), *form), say)
        say(f"boards join at {served.url}")
        rollouts = RolloutDesk(folder.rollouts)
        service = enrolment_service(served, release_for=rollouts.release_for, take_report=rollouts.take_report)
        page = LivePage(served, lambda: rounds.standing, lambda: gateway.again(rounds))
        say(f"the live page is at {page.url}")
        services = (Broker(folder, settings, mosquitto), service, rounds, page)
        gateway = Gateway(services, say, lambda: keep_up(served, mosquitto, say, service, page), spare=(page,))
        gateway.run()
    return 0


def keep_up(served: Fleet, mosquitto: Mosquitto, say: Callable[[str], None], *servers: HttpsServer | LivePage) -> None:
    """Renews what is about to end; broker and servers take it up, and what `init` renewed meanwhile.

    Raises as `coordinator.enrolment.founding.mend`, `cut.reload` and `HttpsServer.reload`.
    """
    from coordinator.enrolment import cut  # noqa: PLC0415

    _mend(served, mosquitto, say)
    cut.reload(served.folder)
    for server in servers:
        server.reload()


def _mend(served: Fleet, mosquitto: Mosquitto, say: Callable[[str], None]) -> None:
    from coordinator.enrolment.founding import mend  # noqa: PLC0415

    for line in mend(served.folder, served.settings, served.authority, mosquitto, served.now()):
        say(line)


def _next_steps(folder: FleetFolder) -> str:
    return (
        f"Run it:           rankfleet coordinator up {folder.root}\n"
        f"At every boot:    sudo cp {folder.unit} /etc/systemd/system/\n"
        f"                  sudo systemctl enable --now {folder.unit.stem}\n"
        f"Back up:          {folder.ca_key.parent} (keep it secret: who has it can make members of the fleet)\n"
        f"It all runs as:   {folder.owner}, the folder's owner"
        + ("; make an ordinary user its owner, and run init again" if folder.owner == "root" else "")
    )


def _rankfleet() -> tuple[str, ...]:
    """The command line of this installation."""
    script = Path(sys.executable).parent / "rankfleet"
    return (str(script),) if script.exists() else (sys.executable, "-m", "deploy.cli.main")


def _say(line: str) -> None:
    print(f"rankfleet: {line}", flush=True)
