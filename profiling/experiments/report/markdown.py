"""The report as Markdown: tables only, for a page of documentation."""

from __future__ import annotations

from collections.abc import Iterator

from profiling.table import markdown_table

from .contents import Contents, Section
from .tables import NOTES, cell_table, made_of, options_table, profile_table, summary_table


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
    yield from markdown_table(profile_table(group))
    yield from ("", "### Options", "")
    yield from markdown_table(options_table(group))
    if section.summaries:
        yield from ("", "### Summary", "")
        yield from markdown_table(summary_table(section.summaries))
    for cell in group.cells:
        yield from ("", f"### {cell.title}", "")
        yield from markdown_table(cell_table(section.cell_rows(cell)))
