"""The report as one HTML page with its plots: no script, and nothing from elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from .cells import Arm, Cell
from .contents import Contents, Section
from .names import PRODUCT, PUBLISHED
from .plots import Styles, cell_charts, choose_styles
from .rank_map import rank_map
from .sensitivity import sensitivity_charts
from .tables import NOTES, Table, cell_table, made_of, options_table, profile_table, summary_table

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


def page(contents: Contents) -> str:
    """The text of the file."""
    root = ET.Element("html", lang="en")
    head, body = ET.SubElement(root, "head"), ET.SubElement(root, "body")
    ET.SubElement(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", "rankfleet: results")
    _add(head, "style", _STYLE)
    _add(body, "h1", "Results")
    _add(ET.SubElement(body, "p"), "code", contents.command)
    _add_list(body, NOTES)
    for section in contents.sections:
        _add_section(body, section)
    if contents.curves:
        _add(body, "h2", "Sensitivity")
        _add_plots(body, sensitivity_charts(contents.curves))
    return "<!DOCTYPE html>\n" + ET.tostring(root, encoding="unicode", method="html") + "\n"


def _add_section(body: ET.Element, section: Section) -> None:
    group = section.group
    _add(body, "h2", f"{group.model}, profile {section.key}")
    _add(body, "p", f"{made_of(group)}. Model pack {group.pack_sha256[:12]}.")
    _add_table(body, profile_table(group))
    _add(body, "h3", "Options")
    _add_table(body, options_table(group))
    if section.summaries:
        _add(body, "h3", "Summary")
        _add_table(body, summary_table(section.summaries))
    styles = choose_styles(group.options)
    for cell in group.cells:
        _add_cell(body, section, cell, styles)


def _add_cell(body: ET.Element, section: Section, cell: Cell, styles: Styles) -> None:
    _add(body, "h3", cell.title)
    _add_table(body, cell_table(section.cell_rows(cell)))
    maps = [
        rank_map(f"{cell.title}: living ranks of {method}", list(cell.arms[Arm(method, "")].values()))
        for method in (PRODUCT, PUBLISHED)
        if cell.seeds(method)
    ]
    _add_plots(body, [*cell_charts(cell, styles), *maps])


def _add_plots(body: ET.Element, plots: Iterable[ET.Element]) -> None:
    grid = ET.SubElement(body, "div", {"class": "plots"})
    for plot in plots:
        ET.SubElement(grid, "figure").append(plot)


def _add_table(body: ET.Element, table: Table) -> None:
    element = ET.SubElement(ET.SubElement(body, "div", {"class": "wide"}), "table")
    _add_cells(ET.SubElement(ET.SubElement(element, "thead"), "tr"), "th", table.head, table.words)
    rows = ET.SubElement(element, "tbody")
    for row in table.rows:
        _add_cells(ET.SubElement(rows, "tr"), "td", row, table.words)


def _add_cells(row: ET.Element, tag: str, cells: Iterable[str], words: int) -> None:
    for place, cell in enumerate(cells):
        element = _add(row, tag, cell)
        if place < words:
            element.set("class", "word")


def _add_list(body: ET.Element, notes: Iterable[str]) -> None:
    items = ET.SubElement(body, "ul")
    for note in notes:
        _add(items, "li", note.replace("`", ""))


def _add(parent: ET.Element, tag: str, words: str) -> ET.Element:
    element = ET.SubElement(parent, tag)
    element.text = words
    return element
