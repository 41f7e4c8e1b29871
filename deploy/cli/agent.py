"""`rankfleet agent`: runs the agent of a board, looks for what is wrong with one, and makes it a member of a fleet."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from deploy.cli import agent_update, board, unit
from edge_agent.releases.options import add_operations

_RUN = """\
Runs the agent until the coordinator dismisses it, or Ctrl-C. It joins the fleet, fetches the model pack, measures
this device, and takes part in rounds. Started again, it goes on where it was. As a service of systemd it reads its
configuration again on SIGHUP; `rankfleet agent unit` prints the unit.
"""


_DOCTOR = """\
Checks the board, its system, memory control group, swap, power, clock and disk, the data, the engine and the broker,
and says of each finding what to do. An agent may be running meanwhile. Exit status: 0 nothing keeps the agent from its
work (there may be warnings), 1 something does, or the configuration cannot be read; 2 wrong usage; 130 interrupted.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("agent", help="run the agent of a board", description="The agent of one board.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    run_parser = commands.add_parser("run", help="join the fleet and train", description=_RUN)
    run_parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; see docs/configuration.md")
    run_parser.set_defaults(run=run)
    doctor_parser = commands.add_parser("doctor", help="look for what is wrong with a board", description=_DOCTOR)
    doctor_parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; see docs/configuration.md")
    doctor_parser.add_argument("--json", action="store_true", help="one JSON object a finding, a line each")
    doctor_parser.set_defaults(run=doctor)
    add_operations(commands)
    agent_update.add_to(commands)
    board.add_parsers(commands)
    unit.add_parser(commands)


def run(args: argparse.Namespace) -> NoReturn:
    """Becomes the agent, which is the same process without all this; see `edge_agent.__main__`."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "edge_agent", str(args.config)])


def doctor(args: argparse.Namespace) -> int:
    """Prints findings as they are made; 1 if one of them is a failure."""
    import msgspec  # noqa: PLC0415 (a help text needs none of it)

    from edge_agent import config  # noqa: PLC0415
    from edge_agent.doctor.checkup import checkup  # noqa: PLC0415

    failed = False
    for finding in checkup(config.load(args.config)):
        print(msgspec.json.encode(finding).decode() if args.json else finding.lines(), flush=True)
        failed = failed or finding.level == "failure"
    return int(failed)
