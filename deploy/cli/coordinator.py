"""`rankfleet coordinator`: runs the coordinator of a fleet, and updates its boards."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec

from deploy.cli import enrolment, gateway, rollout, rounds
from deploy.cli.options import add_log

_RUN = """\
Runs the rounds of a fleet to their end, then hands the final model to the devices. Stopped and started again, it goes
on where it was: every update that it acknowledged is on disk.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("coordinator", help="run the coordinator of a fleet", description="On the gateway.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    run_parser = commands.add_parser("run", help="run the rounds", description=_RUN)
    run_parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; see docs/configuration.md")
    run_parser.add_argument("--json", action="store_true", help="print every event as a line of JSON")
    add_log(run_parser)
    run_parser.set_defaults(run=run)
    gateway.add_parsers(commands)
    rounds.add_parsers(commands)
    rollout.add_to(commands)
    enrolment.add_parsers(commands)


def run(args: argparse.Namespace) -> int:
    """Runs a coordinator; exit status 1 if a device did not confirm the final model.

    Raises as `coordinator.run.run`.
    """
    from coordinator import config, events  # noqa: PLC0415 (a help text needs none of it)
    from coordinator.event_log import EventLog  # noqa: PLC0415
    from coordinator.run import run as run_coordinator  # noqa: PLC0415
    from deploy.progress import Progress  # noqa: PLC0415

    progress, log = Progress(), EventLog()

    def watch(event: events.Watched) -> None:
        if args.log == "json":
            log(event)
            if not args.json:
                return
        line = msgspec.json.encode(event).decode() if args.json else progress.line(event)
        if line is not None:
            print(line, flush=True)

    missing = run_coordinator(config.load(args.config), watch)
    if missing:
        print(f"rankfleet: no final report from {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0
