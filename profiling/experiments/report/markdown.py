"""The report as Markdown: tables only, for a page of documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .contents import Contents, Section
from .tables import NOTES, Table, cell_table, made_of, options_table, profile_table, summary_table


def markdown(contents: Contents) -> str:
    """The whole file; its first line says which command made it."""
    lines = [f"Made by `{contents.command}`: run it again rather than change this file.", "", "# Results", ""]
    lines += [f"- {note}" for note in NOTES]
    for section in contents.sections:
        lines += _section(section)
    return "\n".join(lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    group = section.group
    yield from ("", f"## {group.model}, profile {section.key}", "", f"{made_of(group)}.", "")
    yield from _table(profile_table(group))
    yield from ("", "### Options", "")
    yield from _table(options_table(group))
    if section.summaries:
        yield from ("", "### Summary", "")
        yield from _table(summary_table(section.summaries))
    for cell in group.cells:
        yield from ("", f"### {cell.title}", "")
        yield from _table(cell_table(section.cell_rows(cell)))


def _table(table: Table) -> Iterator[str]:
    yield _line(table.head)
    yield _line([":--" if place < table.words else "--:" for place in range(len(table.head))])
    yield from map(_line, table.rows)


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
