from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.rounds.compare import Difference, compare, difference_table, interval
from profiling.rounds.load import load_run
from tests.profiling.rounds.recordings import record

STEADY = [10.0, 10.2, 9.9, 10.1, 10.0, 9.8]


def differences(folder: Path, first: list[float], second: list[float]) -> dict[tuple[str, str], Difference]:
    runs = load_run(record(folder / "a", first)), load_run(record(folder / "b", second))
    return {(one.phase, one.figure): one for one in compare(*runs)}


def test_what_is_slower_than_its_rounds_vary_exceeds_the_noise(tmp_path: Path) -> None:
    found = differences(tmp_path, STEADY, [value + 2 for value in STEADY])
    train = found["train", "wall s"]
    assert train.difference == pytest.approx(2.0)
    assert train.low is not None and train.high is not None and 0 < train.low <= 2.0 <= train.high
    assert train.exceeds_noise is True
    assert found["load", "wall s"].exceeds_noise is False


def test_one_round_that_was_slow_for_its_own_reason_does_not(tmp_path: Path) -> None:
    assert differences(tmp_path, STEADY, [*STEADY[:-1], 60.0])["train", "wall s"].exceeds_noise is False


def test_too_few_rounds_conclude_nothing(tmp_path: Path) -> None:
    train = differences(tmp_path, STEADY, [20.0, 21.0])["train", "wall s"]
    assert (train.low, train.high, train.exceeds_noise, train.rounds) == (None, None, None, (6, 2))


def test_what_one_side_does_not_know_is_not_compared(tmp_path: Path) -> None:
    first = load_run(record(tmp_path / "a", STEADY))
    second = load_run(record(tmp_path / "b", STEADY, energy_j=None))
    figures = {(one.phase, one.figure) for one in compare(first, second)}
    assert ("train", "wall s") in figures and ("train", "J") not in figures


def test_the_same_noise_rarely_seems_different() -> None:
    """A 95 % interval of the difference of two equal distributions leaves 0 out about once in twenty times."""
    generator = np.random.default_rng(1)
    seemed = sum(
        not low <= 0 <= high
        for low, high in (interval(generator.normal(size=12), generator.normal(size=12)) for _ in range(200))
    )
    assert seemed <= 20


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=20), shift=st.floats(-1e3, 1e3))
def test_the_interval_moves_with_what_is_added_to_all(values: list[float], shift: float) -> None:
    low, high = interval(values, values)
    moved_low, moved_high = interval(values, [value + shift for value in values])
    assert low <= 0 <= high
    assert (moved_low, moved_high) == (pytest.approx(low + shift, abs=1e-3), pytest.approx(high + shift, abs=1e-3))


def test_the_table_marks_what_differs(tmp_path: Path) -> None:
    found = differences(tmp_path, STEADY, [value + 2 for value in STEADY])
    table = difference_table([found["train", "wall s"], found["load", "wall s"]])
    assert [row[-1] for row in table.rows] == ["*", ""]
    assert table.rows[0][:5] == ("train", "wall s", "10.000", "12.000", "+2.000")
