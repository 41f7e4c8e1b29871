from __future__ import annotations

from collections.abc import Callable

from coordinator.config import HeadSettings, TrainingSettings
from profiling.experiments.record import Result
from profiling.experiments.report.cells import group
from profiling.experiments.report.rows import group_rows
from profiling.experiments.report.summary import summarise
from profiling.experiments.report.tables import (
    Table,
    cell_table,
    made_of,
    options_table,
    profile_table,
    summary_table,
)
from profiling.experiments.settings import Options, Profile, Trial

Make = Callable[..., Result]


def by_heading(table: Table, row: int = 0) -> list[tuple[str, str]]:
    return list(zip(table.head, table.rows[row], strict=True))


def test_every_row_has_a_cell_for_every_heading(results: list[Result]) -> None:
    (only,) = group(results)
    tables = [profile_table(only), options_table(only), summary_table(summarise(only)), cell_table(group_rows(only))]
    for table in tables:
        assert all(len(row) == len(table.head) for row in table.rows)
        assert all(cell for row in table.rows for cell in row)


def test_all_settings_of_the_profile_are_listed(make_result: Make) -> None:
    (only,) = group([make_result()])
    assert [name for name, _ in profile_table(only).rows] == list(Profile.__struct_fields__)


def test_learning_rates_and_what_is_no_default_are_listed(make_result: Make) -> None:
    options = Options(
        head=HeadSettings("seed"), training=TrainingSettings(lr=0.004, quantisation="int8"), trial=Trial(momentum=0.5)
    )
    (only,) = group([make_result(options=options)])
    changed = "head.start = seed, training.quantisation = int8, trial.momentum = 0.5"
    assert options_table(only).rows == [("fedlora", "-", "0.004", "0.09", "0.006", changed)]


def test_what_a_single_seed_cannot_tell_is_a_dash_and_never_zero(make_result: Make) -> None:
    (only,) = group([make_result(accuracies=(0.25, 0.5, 0.625))])
    assert by_heading(cell_table(group_rows(only))) == [
        ("method", "fedlora"), ("extras", "-"), ("seeds", "1"),
        ("accuracy, %", "62.50"), ("± 95 %", "-"),
        ("to FedLoRA, points", "-"), ("± 95 %", "-"),
        ("MB in all", "24.00"), ("MB to FedLoRA's accuracy", "24.00"), ("ratio to FedLoRA's", "1.000"),
        ("equal bytes, MB", "24.00"), ("accuracy there, %", "62.50"), ("± 95 %", "-"),
    ]  # fmt: skip


def test_differences_have_their_sign(make_result: Make) -> None:
    made = [make_result(accuracies=(0.5,)), make_result("rankfleet", accuracies=(0.625,))]
    made.append(make_result("fedara", accuracies=(0.375,)))
    (only,) = group(made)
    table = cell_table(group_rows(only))
    place = table.head.index("to FedLoRA, points")
    assert {row[0]: row[place] for row in table.rows} == {"rankfleet": "+12.50", "fedara": "-12.50", "fedlora": "-"}
    assert summary_table(summarise(only)).rows[0][:8] == (
        "alpha 0.1", "rankfleet", "-", "-", "banking77", "+12.50", "-", "1",
    )  # fmt: skip


def test_runs_are_told_with_dates_and_versions(make_result: Make) -> None:
    (only,) = group([make_result(seed=0), make_result(seed=2)])
    assert made_of(only) == "Runs: 2; 2026-11-20 to 2026-11-22; rankfleet 0.1.0; 0.03 h of computing"
    assert made_of(group([make_result()])[0]).startswith("Runs: 1; 2026-11-20; ")
