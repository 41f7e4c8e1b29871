from __future__ import annotations

from pathlib import Path

from profiling.rounds.figures import NONE, phases_of, written
from profiling.rounds.load import load_run
from profiling.rounds.summary import header_table, phase_table, round_table, total_of
from tests.edge_agent.recorded import DEVICE_ENTRY, phase_entry
from tests.profiling.rounds.recordings import record


def column(table_head: tuple[str, ...], row: tuple[str, ...], name: str) -> str:
    return row[table_head.index(name)]


def test_phases_are_medians_of_the_rounds_in_the_order_of_a_round(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [10.0, 30.0, 12.0])).devices
    table = phase_table(device)
    assert phases_of(device) == ["join", "wait", "receive", "load", "train", "publish"]
    rows = {row[0]: row for row in table.rows}
    assert column(table.head, rows["train"], "wall s") == "12.000"
    assert column(table.head, rows["train"], "rounds") == "3"
    assert column(table.head, rows["train"], "J") == "72.00"
    assert column(table.head, rows["join"], "wall s") == "2.000"
    assert column(table.head, rows["join"], "rounds") == NONE


def test_what_was_not_measured_is_a_dash_and_not_zero(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [10.0], energy_j=None, temperature_c=None, major_faults=0)).devices
    table = phase_table(device)
    (train,) = [row for row in table.rows if row[0] == "train"]
    assert [column(table.head, train, name) for name in ("J", "hottest C", "major faults")] == [NONE, NONE, "0"]
    assert written(None, 2) == NONE


def test_rounds_show_the_plan_beside_what_came_of_it_and_waiting_costs_nothing(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [10.0, 20.0], slowed=("throttled",))).devices
    table = round_table(device)
    assert [column(table.head, row, "round") for row in table.rows] == ["1", "2"]
    assert [column(table.head, row, "wall s") for row in table.rows] == ["13.00", "23.00"]
    assert [column(table.head, row, "J") for row in table.rows] == ["78.0", "138.0"]
    assert column(table.head, table.rows[0], "slowed by") == "throttled"


def test_a_sum_of_which_a_part_is_unknown_is_unknown() -> None:
    assert total_of([phase_entry(), phase_entry(energy_j=None)], "energy_j") is None
    assert total_of([], "energy_j") is None
    assert total_of([phase_entry(), phase_entry()], "energy_j") == 120.0


def test_the_header_says_on_what_it_was_measured(tmp_path: Path) -> None:
    rows = dict(header_table(load_run(record(tmp_path, [1.0])).devices).rows)  # type: ignore[arg-type]
    assert rows["board"] == DEVICE_ENTRY.model and rows["governor"] == "ondemand" and rows["threads"] == "2"
    assert rows["commit"] == NONE
