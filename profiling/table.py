"""Tables as text in cells: the same for Markdown, HTML and the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """Headings, and rows of as many cells; the first `words` columns are words, the others figures."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    words: int = 1


def markdown_table(table: Table) -> Iterator[str]:
    """Lines of Markdown."""
    yield _line(table.head)
    yield _line([":--" if place < table.words else "--:" for place in range(len(table.head))])
    yield from map(_line, table.rows)


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def text_table(table: Table) -> Iterator[str]:
    """Lines for a terminal: words to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    for row in (table.head, *table.rows):
        cells = (
            cell.ljust(width) if place < table.words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
