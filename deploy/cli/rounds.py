"""`rankfleet coordinator pause` and `resume`: whether a fleet goes on to its next round."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.cli import fleet
from deploy.cli.enrolment import WHO

_PAUSE = """\
Has the coordinator finish the round that is open and open no other. What it says holds until `resume`, over restarts.
"""


def add_parsers(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the subcommands to those of `rankfleet coordinator`."""
    for name, paused, about, description in (
        ("pause", True, "open no further round", _PAUSE),
        ("resume", False, "let the rounds go on", "Lets the rounds go on after `pause`."),
    ):
        parser = commands.add_parser(name, help=about, description=description)
        parser.add_argument("folder", type=Path, metavar="FOLDER", help="the fleet's folder, or a run folder")
        parser.set_defaults(run=say, paused=paused)


def say(args: argparse.Namespace) -> int:
    """Writes it down for the coordinator, and says what follows.

    Raises:
        ConfigError: the folder holds no fleet and no run.
        StoreError: it cannot be written.
    """
    from coordinator import pause  # noqa: PLC0415 (a help text needs none of it)
    from coordinator.run import DATABASE  # noqa: PLC0415
    from coordinator.store import Store  # noqa: PLC0415

    store = Store(_run_dir(args.folder.resolve()) / DATABASE)
    try:
        pause.say(store, args.paused, WHO, fleet.now())
    finally:
        store.close()
    print(
        "paused: the open round is finished, and no other opens until `rankfleet coordinator resume`"
        if args.paused
        else "resumed: the next round opens when enough devices are ready"
    )
    return 0


def _run_dir(folder: Path) -> Path:
    """A run folder is its own; that of a fleet is written to by the fleet's owner."""
    from coordinator.enrolment.run_folder import run_dir  # noqa: PLC0415
    from deploy.folders import is_run  # noqa: PLC0415

    if is_run(folder):
        return folder
    return run_dir(fleet.opened(folder).folder)
