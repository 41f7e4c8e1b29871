"""`rankfleet`, the one command. Subcommands are imported when they are asked for, so that an agent stays small."""

from __future__ import annotations

import argparse
import importlib
import sys

from edge_agent.service import program
from edge_agent.wire.lean import own_version

_ABOUT = """\
Fine-tunes a pretrained language model across a fleet of small boards whose data never leaves them.

Try it:            rankfleet demo
Run a fleet:       rankfleet pack build MODEL PACK
                   rankfleet coordinator run coordinator.toml     (on the gateway)
                   rankfleet agent run agent.toml                 (on every board)
Look and use:      rankfleet status RUN, rankfleet predict RUN "text", rankfleet export RUN model.onnx
"""
_EPILOG = "Exit status: 0 done; 1 failed, the reason is on standard error; 2 wrong usage; 130 interrupted."
SUBCOMMANDS = ("demo", "fetch", "pack", "coordinator", "agent", "status", "predict", "export", "profile", "experiment")


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = _parser(arguments)
    args = parser.parse_args(arguments)
    if "run" not in args:
        parser.print_help()
        return 2
    return program.run(lambda: args.run(args))


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rankfleet", description=_ABOUT, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"rankfleet {own_version()}")
    subparsers = parser.add_subparsers(metavar="COMMAND", title="commands")
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name in SUBCOMMANDS if chosen not in SUBCOMMANDS else (chosen,):
        importlib.import_module(f"deploy.cli.{name}").add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
