from __future__ import annotations

import xml.etree.ElementTree as ET

from profiling.html import add, add_list, add_plots, add_table, finish_page, start_page
from profiling.table import Table


def test_a_page_is_whole_and_what_stands_in_it_is_text() -> None:
    root, body = start_page("Rounds")
    add(body, "p", "<script>alert(1)</script>")
    add_list(body, ["a `b`"])
    add_table(body, Table(("x", "y"), [("1 < 2", "3")]))
    add_plots(body, [ET.Element("svg")])
    text = finish_page(root)
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "<title>rankfleet: rounds</title>" in text
    assert "<li>a b</li>" in text and '<td class="word">1 &lt; 2</td><td>3</td>' in text
