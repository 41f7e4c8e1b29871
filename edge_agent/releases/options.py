"""The command line of releases. What it does is imported when it is asked for, so that a running agent stays small."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

from edge_agent.wire.errors import RankfleetError

from .limits import BROKER_PORT, Limits

_ABOUT = "Installs, changes and removes releases of the rankfleet agent on this board."


def main(argv: list[str] | None = None) -> int:
    """Runs one operation; its exit status: 0 done, 1 failed or returned to the release before, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="edge_agent.releases", description=_ABOUT)
    add_commands(parser.add_subparsers(metavar="COMMAND", required=True))
    args = parser.parse_args(argv)
    try:
        status: int = args.run(args)
    except RankfleetError as error:
        print(f"rankfleet: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return status


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Every command of this program."""
    make = commands.add_parser("install", help="install a release and what is around it")
    make.add_argument("bundle", type=Path, metavar="BUNDLE")
    _membership_options(make)
    make.add_argument("--pack", type=Path, metavar="FOLDER", help="a model pack that need not be fetched")
    _common(make)
    make.set_defaults(run=_run("install"))
    settle = commands.add_parser("configure", help="what is around the agent of the Debian package")
    _membership_options(settle)
    _common(settle)
    settle.set_defaults(run=_run("configure"))
    add_operations(commands)
    status = commands.add_parser("status", help="the releases on this board")
    _common(status)
    status.set_defaults(run=_run("status"))


def add_operations(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """What is done to a board that has an agent: `upgrade`, `rollback`, `uninstall`."""
    upgrade = commands.add_parser(
        "upgrade", help="install another release of the agent",
        description="Stages the bundle, waits for the end of a round, switches, and returns if the new release fails.",
    )  # fmt: skip
    upgrade.add_argument("bundle", type=Path, metavar="BUNDLE", help="the tar that 'rankfleet deploy bundle' made")
    _change_options(upgrade, "upgrade")
    back = commands.add_parser(
        "rollback", help="return to the release before",
        description="Makes the last good release current again, waiting for the end of a round.",
    )  # fmt: skip
    _change_options(back, "rollback")
    away = commands.add_parser(
        "uninstall", help="remove rankfleet from this board",
        description="Removes the agent, its releases, services, keys, user, and, unless it is to keep them, its texts "
        "and what it learnt.",
    )  # fmt: skip
    chosen = away.add_mutually_exclusive_group()
    chosen.add_argument("--purge", action="store_true", help="delete texts and state too, without asking")
    chosen.add_argument("--keep-data", action="store_true", help="keep texts and state, without asking")
    _common(away)
    away.set_defaults(run=_run("uninstall"))


def _membership_options(parser: argparse.ArgumentParser) -> None:
    for option in ("--device", "--fleet", "--gateway"):
        parser.add_argument(option, required=True)
    parser.add_argument("--ca", type=Path, required=True, metavar="FILE", help="the fleet's CA certificate")
    parser.add_argument("--broker-port", type=int, default=BROKER_PORT)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--budget-mib", type=int)


def _change_options(parser: argparse.ArgumentParser, operation: str) -> None:
    limits = Limits()
    parser.add_argument(
        "--idle-s", type=float, default=limits.idle_s, help="longest to wait for the end of a round (%(default)s)"
    )
    parser.add_argument(
        "--steady-s", type=float, default=limits.steady_s, help="how long the agent must stay up (%(default)s)"
    )
    _common(parser)
    parser.set_defaults(run=_run(operation))


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prefix", type=Path, default=Path("/"), metavar="DIR", help="the board's root folder, for tests (%(default)s)"
    )


def _run(operation: str) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        status: int = getattr(importlib.import_module("edge_agent.releases.command"), operation)(args)
        return status

    return run
