from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from profiling.rounds.load import load_run
from profiling.rounds.plots import accuracies_of, device_plots, run_plots
from profiling.rounds.ranks import RankMap
from tests.profiling.rounds.recordings import demo, record
from tests.runs import make_config, make_run, make_state

RANKS = RankMap(("encoder.layer.0.output.dense", "encoder.layer.1.output.dense"), (3, 1), 3)


def titles(plots: list[ET.Element]) -> list[str]:
    return [plot.attrib["aria-label"] for plot in plots]


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


def test_the_budget_stands_beside_the_memory_of_every_phase(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [1.0, 2.0])).devices
    memory = device_plots(device)[0]
    legend = [element.text for element in memory.iter("text") if element.get("class") == "legend"]
    assert legend == ["receive", "load", "train", "publish", "budget"]
