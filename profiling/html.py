"""One page of HTML with tables and plots: no script, and nothing from elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from profiling.table import Table

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #f1f3f5; --rule: #d0d4d9; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #15181c; --soft: #20252b; --rule: #3a4149; }
}
body { margin: 0 auto; max-width: 1600px; padding: 1rem 2rem 4rem; font: 15px/1.45 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--rule); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: 0.2rem 0.6rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { background: var(--soft); vertical-align: bottom; }
.word { text-align: left; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(34rem, 1fr)); gap: 1rem; margin: 1rem 0; }
figure { margin: 0; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: currentColor; }
svg .title { font-size: 14px; font-weight: 600; }
svg .legend, svg .small { font-size: 11px; }
svg .grid, svg .cell { stroke-opacity: 0.2; }
@media (max-width: 40rem) { .plots { grid-template-columns: 1fr; } }
"""


def start_page(title: str) -> tuple[ET.Element, ET.Element]:
    """The page, and its body to add to."""
    root = ET.Element("html", lang="en")
    head, body = ET.SubElement(root, "head"), ET.SubElement(root, "body")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    add(head, "title", f"rankfleet: {title.lower()}")
    add(head, "style", _STYLE)
    add(body, "h1", title)
    return root, body


def finish_page(root: ET.Element) -> str:
    """The text of the file."""
    return "<!DOCTYPE html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def add_plots(body: ET.Element, plots: Iterable[ET.Element]) -> None:
    """Images side by side, as many as the width has room for."""
    grid = ET.SubElement(body, "div", {"class": "plots"})
    for plot in plots:
        ET.SubElement(grid, "figure").append(plot)


def add_table(body: ET.Element, table: Table) -> None:
    """A table that scrolls by itself where it is too wide."""
    element = ET.SubElement(ET.SubElement(body, "div", {"class": "wide"}), "table")
    _add_cells(ET.SubElement(ET.SubElement(element, "thead"), "tr"), "th", table.head, table.words)
    rows = ET.SubElement(element, "tbody")
    for row in table.rows:
        _add_cells(ET.SubElement(rows, "tr"), "td", row, table.words)


def _add_cells(row: ET.Element, tag: str, cells: Iterable[str], words: int) -> None:
    for place, cell in enumerate(cells):
        element = add(row, tag, cell)
        if place < words:
            element.set("class", "word")


def add_list(body: ET.Element, notes: Iterable[str]) -> None:
    """Points, without their marks of code."""
    items = ET.SubElement(body, "ul")
    for note in notes:
        add(items, "li", note.replace("`", ""))


def add(parent: ET.Element, tag: str, words: str) -> ET.Element:
    """An element with words in it."""
    element = ET.SubElement(parent, tag)
    element.text = words
    return element
