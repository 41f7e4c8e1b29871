from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from profiling.experiments.record import Result
from profiling.experiments.report.cells import Arm, group
from profiling.experiments.report.rows import Row, equal_bytes, group_rows, profile_key
from profiling.experiments.report.statistics import Estimate
from profiling.experiments.settings import Profile

Make = Callable[..., Result]


def rows_of(results: Sequence[Result]) -> dict[str, Row]:
    (only,) = group(results)
    return {Arm(row.method, row.extras).label: row for row in group_rows(only)}


def test_there_is_one_row_for_each_arm_of_each_cell(results: list[Result]) -> None:
    (only,) = group(results)
    rows = group_rows(only)
    assert len({(row.dataset, row.alpha, row.method, row.extras) for row in rows}) == len(rows) == 2 * 2 * 9
    assert {row.seeds for row in rows} == {3}
    assert {(row.model, row.rounds, row.profile) for row in rows} == {("MiniLM-L6", 6, profile_key(only.profile))}


def test_differences_are_paired_by_seed(make_result: Make) -> None:
    """Seeds that differ by much, and a method that is better by the same on each: the interval is that of the gain."""
    made = [make_result("fedlora", seed=seed, accuracies=(0.1, 0.1 * seed)) for seed in (1, 2, 3)]
    made += [make_result("fedara", seed=seed, accuracies=(0.1, 0.1 * seed + 0.05)) for seed in (1, 2, 3, 4)]
    row = rows_of(made)["fedara"]
    assert row.seeds == 4
    assert row.accuracy_ci95 is not None and row.accuracy_ci95 > 0.1
    difference = row.paired_difference_to_fedlora
    assert difference is not None and difference.ci95 is not None
    assert difference.mean == pytest.approx(0.05)
    assert difference.ci95 == pytest.approx(0, abs=1e-9)
    assert difference.count == 3


def test_a_single_seed_has_no_interval(make_result: Make) -> None:
    row = rows_of([make_result("fedlora"), make_result("fedara")])["fedara"]
    assert row.accuracy_ci95 is None
    assert row.accuracy_at_equal_bytes_ci95 is None
    assert row.paired_difference_to_fedlora == Estimate(0.0, None, 1)


def test_bytes_count_until_fedloras_own_final_accuracy_of_the_same_seed(make_result: Make) -> None:
    made = [make_result("fedlora", accuracies=(0.2, 0.5, 0.5), round_bytes=1000)]
    made += [make_result("fedara", accuracies=(0.4, 0.5, 0.7), round_bytes=100)]
    rows = rows_of(made)
    assert rows["fedara"].bytes_to_fedlora == 400
    assert rows["fedara"].bytes_ratio_to_fedlora == 0.1
    assert rows["fedlora"].bytes_to_fedlora == 4000
    assert rows["fedlora"].bytes_ratio_to_fedlora == 1.0
    assert rows["fedlora"].paired_difference_to_fedlora is None


def test_one_seed_that_never_reaches_fedlora_leaves_no_figure(make_result: Make) -> None:
    made = [make_result("fedlora", seed=seed, accuracies=(0.2, 0.5)) for seed in (0, 1)]
    made += [make_result("fedara", seed=seed, accuracies=(0.2, final)) for seed, final in ((0, 0.6), (1, 0.4))]
    row = rows_of(made)["fedara"]
    assert (row.bytes_to_fedlora, row.bytes_ratio_to_fedlora) == (None, None)


def test_without_fedlora_nothing_is_compared_with_it(make_result: Make) -> None:
    row = rows_of([make_result("fedara"), make_result("fedlora", extras="int8")])["fedara"]
    assert row.paired_difference_to_fedlora is None
    assert (row.bytes_to_fedlora, row.bytes_ratio_to_fedlora) == (None, None)


def test_equal_bytes_are_what_the_cheapest_that_trains_ranks_spends(make_result: Make) -> None:
    made = [
        make_result("fedlora", accuracies=(0.3, 0.5, 0.6), round_bytes=300),
        make_result("fedara", accuracies=(0.4, 0.5, 0.7), round_bytes=100),
        make_result("lora_a2", accuracies=(0.4, 0.5, 0.7), round_bytes=301),
        make_result("head", accuracies=(0.1, 0.2, 0.2), round_bytes=1),
    ]
    (only,) = group(made)
    assert equal_bytes(only.cells[0]) == {0: 600}
    rows = rows_of(made)
    assert {row.equal_bytes for row in rows.values()} == {600}
    assert {name: row.accuracy_at_equal_bytes for name, row in rows.items()} == {
        "fedlora": 0.3, "fedara": 0.7, "lora_a2": None, "head": 0.2,
    }  # fmt: skip


def test_profiles_have_different_keys() -> None:
    assert profile_key(Profile()) == profile_key(Profile())
    assert len({profile_key(Profile(rounds=rounds)) for rounds in range(1, 50)}) == 49
