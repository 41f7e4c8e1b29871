"""`rankfleet deploy`: makes what is carried to boards."""

from __future__ import annotations

import argparse

from deploy.cli import bundle, deb


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("deploy", help="make what is carried to boards", description="Packages for boards.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    bundle.add_parser(commands)
    deb.add_parser(commands)
