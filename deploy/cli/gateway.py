"""`rankfleet coordinator init` and `up`: makes and runs the gateway of an enrolled fleet."""

from __future__ import annotations

import argparse
import logging
import os
import pwd
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.cli.options import add_log

if TYPE_CHECKING:
    from coordinator.enrolment.folder import FleetFolder

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
    started.add_argument("folder", type=Path, metavar="FOLDER", help="a folder that `init` made")
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
    founded = found(folder, wish, installed(), command, _now())
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
    from coordinator.enrolment import cut  # noqa: PLC0415
    from coordinator.enrolment.broker_config import installed  # noqa: PLC0415
    from coordinator.enrolment.folder import FleetFolder  # noqa: PLC0415
    from coordinator.enrolment.founding import mend, opened  # noqa: PLC0415
    from coordinator.enrolment.gateway import Gateway  # noqa: PLC0415
    from coordinator.enrolment.opening import Fleet, enrolment_service  # noqa: PLC0415
    from coordinator.enrolment.rollout_store import RolloutDesk  # noqa: PLC0415
    from coordinator.enrolment.services import Broker, Rounds  # noqa: PLC0415
    from coordinator.web.service import LivePage  # noqa: PLC0415
    from deploy.cli.enrolment import template  # noqa: PLC0415
    from edge_agent.wire import logs  # noqa: PLC0415
    from edge_agent.wire.folder_lock import only_one  # noqa: PLC0415

    folder = FleetFolder(args.folder.resolve())
    settings, authority = opened(folder)
    mosquitto = installed()
    logs.concern(fleet=settings.fleet)
    say = _say if args.log == "text" else LOGGER.info
    become(folder.owner)

    def upkeep() -> None:
        done = mend(folder, settings, authority, mosquitto, _now())
        for line in done:
            say(line)
        if done:
            cut.reload(folder)

    with only_one(folder.root, "gateway"):
        upkeep()
        say(f"fleet {settings.fleet}: boards reach the broker at {settings.hosts[0]}:{settings.broker_port}")
        form = ("--log", args.log, "--log-level", args.log_level)
        rounds = (*_rankfleet(), "coordinator", "run", str(folder.coordinator_config), *form)
        fleet = Fleet(folder, settings, authority, template(), _now)
        say(f"boards join at {fleet.url}")
        rollouts = RolloutDesk(folder.rollouts)
        service = enrolment_service(fleet, release_for=rollouts.release_for, take_report=rollouts.take_report)
        running = Rounds(folder, rounds, say)
        page = LivePage(fleet, lambda: running.standing, lambda: gateway.again(running))
        say(f"the live page is at {page.url}")
        services = (Broker(folder, settings, mosquitto), service, running, page)
        gateway = Gateway(services, say, upkeep, spare=(page,))
        gateway.run()
    return 0


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


def become(user: str) -> None:
    """What root starts runs as the folder's owner, for good."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == 0 and entry.pw_uid != 0:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _say(line: str) -> None:
    print(f"rankfleet: {line}", flush=True)
