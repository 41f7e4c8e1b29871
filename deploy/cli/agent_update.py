"""`rankfleet agent update`: asks the gateway what this board is to run. A timer calls it as root."""

from __future__ import annotations

import argparse
import logging
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_agent.updating.settings import UpdaterConfig

LOGGER = logging.getLogger("rankfleet.update")
_UPDATE = """\
Asks the gateway for orders: a new certificate, a release of the agent, a model pack. What is ordered is downloaded,
checked, installed between two rounds, tried, and left again if it does not work. Interrupted, the next call goes on.
Exit status: 0 done, nothing to do, or the agent is in a round; 1 the gateway cannot be asked, or the release failed or
was left again; 2 wrong usage; 130 interrupted.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `update` to the subcommands of the agent."""
    parser = commands.add_parser("update", help="do what the gateway orders", description=_UPDATE)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="the agent's TOML file")
    parser.add_argument(
        "--spread-s", type=float, default=0.0, metavar="N",
        help="wait a random time of at most so many seconds first: not all boards at once (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--idle-s", type=float, default=3600.0, metavar="N", help="longest to wait for the end of a round (%(default)s)"
    )
    parser.add_argument(
        "--steady-s", type=float, default=20.0, metavar="N", help="how long a new agent must stay up (%(default)s)"
    )
    parser.add_argument(
        "--prefix", type=Path, default=Path("/"), metavar="DIR", help="the board's root folder, for tests (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """One run of the updater. Raises as `Updater.run`."""
    from edge_agent.updating import settings  # noqa: PLC0415 (a help text needs none of it)
    from edge_agent.updating.gateway import Gateway  # noqa: PLC0415
    from edge_agent.updating.installed import board_releases  # noqa: PLC0415
    from edge_agent.updating.packs import Packs  # noqa: PLC0415
    from edge_agent.updating.spool import Spool  # noqa: PLC0415
    from edge_agent.updating.updater import Updater  # noqa: PLC0415

    config = settings.load(args.config)
    time.sleep(random.uniform(0, args.spread_s))
    with board_releases(args.prefix, args.idle_s, args.steady_s) as (releases, folder):
        packs = Packs(config.state_dir)
        result = Updater(Spool(folder), Gateway(config), releases, packs, lambda: _renew(config), args.idle_s).run()
    print(result.text, flush=True)
    return int(result.kind in ("returned", "failed"))


def _renew(config: UpdaterConfig) -> None:
    from edge_agent.enrolment.renew import renew  # noqa: PLC0415

    renew(config.gateway.url, config.broker.ca_file, config.broker.certificate_file.parent, LOGGER.info)
