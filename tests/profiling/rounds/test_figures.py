from __future__ import annotations

from pathlib import Path

from profiling.rounds.figures import FIGURES, NONE, phases_of, values_of, written
from profiling.rounds.load import load_run
from tests.edge_agent.recorded import phase_entry
from tests.profiling.rounds.recordings import record

BY_NAME = {figure.name: figure for figure in FIGURES}


def test_figures_are_in_the_units_that_their_names_say() -> None:
    entry = phase_entry()
    assert BY_NAME["CPU s"].of(entry) == 9.7, "of both processes"
    assert BY_NAME["CPU s"].of(phase_entry(trainer_cpu_s=None)) == 0.2
    assert BY_NAME["peak RSS MB"].of(entry) == 150.0
    assert BY_NAME["kB up"].of(entry) == 1.0


def test_what_was_not_measured_has_no_value(tmp_path: Path) -> None:
    assert BY_NAME["J"].of(phase_entry(energy_j=None)) is None
    (device,) = load_run(record(tmp_path, [1.0], energy_j=None)).devices
    assert values_of(device, "train", BY_NAME["J"], [1]) == []
    assert (written(None, 1), written(0.0, 1)) == (NONE, "0.0")


def test_phases_come_in_their_order_and_unknown_ones_last(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [1.0])).devices
    assert phases_of(device) == ["join", "wait", "receive", "load", "train", "publish"]
