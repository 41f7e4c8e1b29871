"""`rankfleet deploy bundle`: the agent for one kind of board, in one file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.cli import fleet

_ABOUT = """\
Collects the agent for boards of one kind and one Python out of wheels, nothing is compiled: a tar with checksums. With
a fleet's folder it is put where boards fetch it from, and the folder --out gets the fleet's installer beside it: copied
to a stick, it installs boards that have no network yet ('sudo sh install.sh --bundle .').
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand of `rankfleet deploy`."""
    parser = commands.add_parser("bundle", help="the agent for one kind of board, in one file", description=_ABOUT)
    parser.add_argument("--target", default="aarch64", help="'uname -m' on the board: aarch64 or x86_64 (%(default)s)")
    parser.add_argument("--python", default="3.11", metavar="X.Y", help="the board's Python (%(default)s)")
    parser.add_argument("--pack", type=Path, metavar="PACK", help="a model pack that boards then need not fetch")
    parser.add_argument("--fleet", type=Path, metavar="FOLDER", help="made by 'rankfleet coordinator init'")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write into, or a stick")
    parser.add_argument("--constraints", type=Path, metavar="FILE", help="versions to choose, in place of our own")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Makes the bundle. Raises as `deploy.board.bundle.make` and `publish`."""
    from deploy.board import bundle  # noqa: PLC0415 (a help text needs none of it)
    from deploy.board.wheels import BOARD_CONSTRAINTS, Target  # noqa: PLC0415
    from deploy.progress import megabytes  # noqa: PLC0415

    served = None if args.fleet is None else fleet.read(args.fleet)
    installer = None if served is None else served.installer()
    target = bundle.check(Target(args.target, args.python))
    print(f"the agent for {args.target} and Python {args.python}: fetching wheels, then packing", file=sys.stderr)
    made = bundle.make(bundle.Order(target, args.pack, installer, args.constraints or BOARD_CONSTRAINTS), args.out)
    for path in made:
        print(f"{path}: {megabytes(path.stat().st_size)}")
    if served is not None:
        print(f"{bundle.publish(made[0], served.folder.releases)}: boards fetch it from here")
    return 0
