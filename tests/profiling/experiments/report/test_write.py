from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from edge_agent.wire.errors import ConfigError, StoreError
from profiling.experiments.record import Result
from profiling.experiments.report.write import Figures, write_report

COMMAND = "rankfleet experiment report docs/main.toml"
_VOID = {"meta"}


class Page(HTMLParser):
    """Checks that every element is closed, and keeps the tables' cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"td", "th"}:
            self.rows[-1][-1] += data


def test_the_page_is_whole_and_asks_for_nothing(results: list[Result], tmp_path: Path) -> None:
    text = write_report(results, tmp_path, COMMAND)[0].read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert {"svg", "title", "table", "polygon", "polyline"} <= page.tags
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert not re.search(r"https?:|url\(|@import|src=|href=", text)
    assert COMMAND in text


def test_json_markdown_and_page_tell_the_same_figures(results: list[Result], tmp_path: Path) -> None:
    page_file, markdown_file, json_file = write_report(results, tmp_path, COMMAND)
    html_rows = Page(page_file.read_text(encoding="utf-8")).rows
    lines = [line for line in markdown_file.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    markdown_rows = [line.strip("| ").split(" | ") for line in lines if "--" not in line]
    assert html_rows == markdown_rows
    figures = msgspec.json.decode(json_file.read_bytes(), type=Figures)
    told = [[row.method, row.extras or "-", str(row.seeds), f"{100 * row.accuracy_mean:.2f}"] for row in figures.rows]
    width = max(len(row) for row in html_rows if row[0] == "method")
    assert told == [row[:4] for row in html_rows if len(row) == width and row[0] != "method"]
    assert len(told) == 2 * 2 * 9


def test_markdown_begins_with_the_command(results: list[Result], tmp_path: Path) -> None:
    first = write_report(results, tmp_path, COMMAND)[1].read_text(encoding="utf-8").splitlines()[0]
    assert f"`{COMMAND}`" in first


def test_the_same_results_in_any_order_of_seeds_make_the_same_files(results: list[Result], tmp_path: Path) -> None:
    for name, ordered in (("a", results), ("b", results[::-1])):
        write_report(ordered, tmp_path / name, COMMAND)
    for file in ("results.json", "results.md", "report.html"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_nothing_to_report_and_nowhere_to_write_are_errors(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished runs"):
        write_report([], tmp_path, COMMAND)
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StoreError, match=r"report\.html"):
        write_report(results, tmp_path / "taken", COMMAND)
