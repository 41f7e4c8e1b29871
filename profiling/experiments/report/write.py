"""Writes a report: a page to look at, tables for the documentation, rows for programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from profiling.experiments.record import Result
from profiling.experiments.settings import Profile
from profiling.files import write_atomically

from .contents import Contents, collect
from .markdown import markdown
from .page import page
from .rows import Row
from .summary import Summary


class Figures(msgspec.Struct, frozen=True):
    """`results.json`. Rows and summaries name their profile by its key."""

    command: str
    """What made it."""
    profiles: dict[str, Profile]
    rows: list[Row]
    summary: list[Summary]


def write_report(results: Sequence[Result], folder: Path, command: str, sweep: Sequence[Result] = ()) -> list[Path]:
    """Writes `report.html`, `results.md` and `results.json` to `folder`, each whole or not at all; returns their paths.

    `command` is what a reader can run to make them again. The runs of `sweep` appear in sensitivity curves only.

    Raises:
        ConfigError: no results, or some that cannot stand in one table.
        StoreError: a file cannot be written.
    """
    contents = collect(results, sweep, command)
    texts = {
        folder / "report.html": page(contents).encode(),
        folder / "results.md": markdown(contents).encode(),
        folder / "results.json": msgspec.json.format(msgspec.json.encode(_figures(contents)), indent=2) + b"\n",
    }
    for path, data in texts.items():
        write_atomically(path, data)
    return list(texts)


def _figures(contents: Contents) -> Figures:
    return Figures(
        contents.command,
        {section.key: section.group.profile for section in contents.sections},
        [row for section in contents.sections for row in section.rows],
        [one for section in contents.sections for one in section.summaries],
    )
