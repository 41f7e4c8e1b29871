"""`rankfleet agent`: runs the agent of a board."""

from __future__ import annotations

import argparse
from pathlib import Path

_RUN = """\
Runs the agent until the coordinator dismisses it, or Ctrl-C. It joins the fleet, fetches the model pack, measures
this device, and takes part in rounds. Started again, it goes on where it was.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser("agent", help="run the agent of a board", description="The agent of one board.")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", required=True)
    run_parser = commands.add_parser("run", help="join the fleet and train", description=_RUN)
    run_parser.add_argument("config", type=Path, metavar="CONFIG", help="TOML file; see docs/configuration.md")
    run_parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs an agent. Raises as `edge_agent.agent.run`."""
    from edge_agent import agent, config  # noqa: PLC0415 (a help text needs none of it)

    agent.run(config.load(args.config))
    return 0
