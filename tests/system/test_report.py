"""A report of real rounds, opened in Chromium: what is read there is what the agents' recorders wrote."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.main import main
from edge_agent.round_log import NAME
from tests.browsers import accessibility, browser, require_browser, watched
from tests.system.fleet import fleet

Lines = list[dict[str, Any]]
Table = list[dict[str, str]]
READ_TABLES = """() => [...document.querySelectorAll('h3')].map((head) => {
    const table = head.nextElementSibling.querySelector('table')
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.innerText)
    const row = (cells) => Object.fromEntries(cells.map((cell, place) => [names[place], cell.innerText]))
    return [head.innerText, [...table.tBodies[0].rows].map((one) => row([...one.cells]))]
})"""
READ_PLOTS = """() => [...document.querySelectorAll('svg')].map((plot) => [
    plot.getAttribute('aria-label'), plot.getBoundingClientRect().width,
    [...plot.querySelectorAll('path, rect, circle, polyline')].some((mark) => mark.getBoundingClientRect().width > 1),
])"""


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state folder of an agent that went through a run."""
    require_browser()
    with fleet(tmp_path_factory.mktemp("run")) as one:
        one.run()
        return one.state_dir("pi-1")


@pytest.fixture(scope="module")
def lines(record: Path) -> Lines:
    return [json.loads(line) for line in (record / NAME).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def report(record: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    assert main(["profile", "report", str(record), "-o", str(out)]) == 0
    return out / "report.html"


def test_the_browser_shows_the_recorder_s_numbers_and_asks_nobody(report: Path, lines: Lines) -> None:
    with browser() as launched, watched(launched) as one:
        one.page.goto(report.as_uri())
        phases, rounds = (table for _, table in one.page.evaluate(READ_TABLES))
        assert_phases(phases, [line for line in lines if line["kind"] == "phase"])
        assert_rounds(rounds, [line for line in lines if line["kind"] == "round"])
        assert one.asked == [report.as_uri()]
        assert accessibility(one.page) == []


def assert_phases(table: Table, lines: Lines) -> None:
    """Medians over the rounds that trained, which are all but the first; of what belongs to no round, its one value."""
    assert {"train", "publish", "join"} <= {row["phase"] for row in table}
    for row in table:
        some = [line for line in lines if line["phase"] == row["phase"]]
        some = [line for line in some if line["round"] > 1] or [line for line in some if line["round"] == 0]
        assert row["rounds"] == (str(len(some)) if some[0]["round"] else "-")
        assert row["wall s"] == told([line["wall_s"] for line in some], 3)
        assert row["peak anonymous MB"] == told([line["peak_anonymous_bytes"] for line in some], 1, 1e-6)
        assert row["kB up"] == told([line["bytes_up"] for line in some], 1, 1e-3)
        assert row["J"] == told([line["energy_j"] for line in some], 2)


def told(values: list[float | None], digits: int, factor: float = 1.0) -> str:
    known = [value * factor for value in values if value is not None]
    return f"{statistics.median(known):.{digits}f}" if known else "-"


def assert_rounds(table: Table, lines: Lines) -> None:
    assert [row["round"] for row in table] == [str(line["round"]) for line in lines]
    for row, line in zip(table, lines, strict=True):
        said = line["report"]
        assert (row["steps"], row["ranks"]) == (str(said["steps"]), str(said["ranks"]))
        assert row["measured MB"] == f"{(said['peak_anonymous_bytes'] + said['mapped_bytes']) / 1e6:.1f}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
def test_every_plot_is_drawn_on_any_screen(report: Path, scheme: str, width: int) -> None:
    with browser() as launched, watched(launched, color_scheme=scheme, viewport={"width": width, "height": 800}) as one:
        one.page.goto(report.as_uri())
        plots = one.page.evaluate(READ_PLOTS)
        assert len(plots) >= 5 and all(name for name, *_ in plots)
        for name, width_px, drawn in plots:
            assert drawn and 0 < width_px <= width, name
        assert one.page.evaluate("document.documentElement.scrollWidth") <= width
