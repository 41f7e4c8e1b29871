from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from profiling.rounds.load import load_run
from profiling.rounds.plots import accuracies_of, device_plots, run_plots
from profiling.rounds.ranks import RankMap, find_ranks
from profiling.rounds.report import page, write_report
from tests.profiling.rounds.recordings import demo, record
from tests.runs import SLOTS, make_agent, make_config, make_run, make_state

RANKS = RankMap(("encoder.layer.0.output.dense", "encoder.layer.1.output.dense"), (3, 1), 3)


def titles(plots: list[ET.Element]) -> list[str]:
    return [plot.attrib["aria-label"] for plot in plots]


def test_a_report_is_three_files_with_the_recorder_s_own_numbers(tmp_path: Path) -> None:
    folder = demo(tmp_path / "run", [10.0, 11.0, 12.5])
    html, markdown, rows = write_report(folder, load_run(folder), tmp_path / "out", "rankfleet profile report")
    assert "11.000" in html.read_text() and "| train | 3 | 11.000 |" in markdown.read_text()
    table = list(csv.DictReader(io.StringIO(rows.read_text())))
    trained = [float(row["wall_s"]) for row in table if row["phase"] == "train" and row["device"] == "a"]
    assert trained == [10.0, 11.0, 12.5]
    assert len(table) == 2 * (1 + 3 * 5)


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = page(load_run(demo(tmp_path, [10.0, 11.0])), RANKS, "rankfleet")
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", text)
    assert text.count("<svg") >= 10


def test_energy_and_heat_that_were_not_measured_have_no_plot(tmp_path: Path) -> None:
    (dark,) = load_run(record(tmp_path / "dark", [1.0, 2.0], energy_j=None, temperature_c=None, clock_hz=None)).devices
    (bright,) = load_run(record(tmp_path / "bright", [1.0, 2.0])).devices
    extra = {"pi-1: energy by phase", "pi-1: temperature by phase", "pi-1: clock by phase"}
    assert set(titles(device_plots(bright))) - set(titles(device_plots(dark))) == extra
    assert "accuracy against energy" not in titles(run_plots(load_run(tmp_path / "dark"), None))


def test_accuracy_is_drawn_against_all_that_was_spent_before(tmp_path: Path) -> None:
    run = load_run(demo(tmp_path, [10.0, 20.0]))
    assert accuracies_of(run) == {1: 6 / 20, 2: 7 / 20}
    assert titles(run_plots(run, RANKS)) == [
        "accuracy against bytes",
        "accuracy against time",
        "accuracy against energy",
        "living ranks",
    ]


def test_the_coordinator_s_accuracy_counts_where_its_folder_is_given(tmp_path: Path) -> None:
    make_run(make_config(tmp_path), make_state(3))
    run = load_run(demo(tmp_path, [10.0]))
    assert accuracies_of(run) == {one.round: one.accuracy for one in run.records if one.accuracy is not None}


def test_ranks_are_those_of_the_last_model(tmp_path: Path) -> None:
    make_run(make_config(tmp_path / "run"), make_state(3))
    found = find_ranks(tmp_path / "run")
    assert found is not None and found.most == SLOTS and len(found.modules) == len(found.ranks)
    state = make_state(2)
    make_agent(tmp_path / "agent", state)
    own = find_ranks(tmp_path / "agent")
    assert own is not None and own.ranks == tuple(state.mask.sum(axis=1))
    assert find_ranks(tmp_path) is None
