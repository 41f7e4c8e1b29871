"""The report as one HTML page with its plots: no script, and nothing from elsewhere."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from profiling.html import add, add_list, add_plots, add_table, finish_page, start_page

from .cells import Arm, Cell
from .contents import Contents, Section
from .names import PRODUCT, PUBLISHED
from .plots import Styles, cell_charts, choose_styles
from .rank_map import rank_map
from .sensitivity import sensitivity_charts
from .tables import NOTES, cell_table, made_of, options_table, profile_table, summary_table


def page(contents: Contents) -> str:
    """The text of the file."""
    root, body = start_page("Results")
    add(ET.SubElement(body, "p"), "code", contents.command)
    add_list(body, NOTES)
    for section in contents.sections:
        _add_section(body, section)
    if contents.curves:
        add(body, "h2", "Sensitivity")
        add_plots(body, sensitivity_charts(contents.curves))
    return finish_page(root)


def _add_section(body: ET.Element, section: Section) -> None:
    group = section.group
    add(body, "h2", f"{group.model}, profile {section.key}")
    add(body, "p", f"{made_of(group)}. Model pack {group.pack_sha256[:12]}.")
    add_table(body, profile_table(group))
    add(body, "h3", "Options")
    add_table(body, options_table(group))
    if section.summaries:
        add(body, "h3", "Summary")
        add_table(body, summary_table(section.summaries))
    styles = choose_styles(group.options)
    for cell in group.cells:
        _add_cell(body, section, cell, styles)


def _add_cell(body: ET.Element, section: Section, cell: Cell, styles: Styles) -> None:
    add(body, "h3", cell.title)
    add_table(body, cell_table(section.cell_rows(cell)))
    maps = [
        rank_map(f"{cell.title}: living ranks of {method}", list(cell.arms[Arm(method, "")].values()))
        for method in (PRODUCT, PUBLISHED)
        if cell.seeds(method)
    ]
    add_plots(body, [*cell_charts(cell, styles), *maps])
