from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.experiments.report.axis import linear, logarithmic, ordinal


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_all_values_lie_between_the_ends_of_a_linear_axis(values: list[float]) -> None:
    axis = linear("x", values)
    assert all(-1e-6 <= axis.share(value) <= 1 + 1e-6 for value in values)
    assert all(before < after for (before, _), (after, _) in itertools.pairwise(axis.ticks))


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20))
def test_all_values_lie_between_the_ends_of_a_logarithmic_axis(values: list[float]) -> None:
    axis = logarithmic("x", values)
    assert all(-1e-9 <= axis.share(value) <= 1 + 1e-9 for value in values)
    assert len(axis.ticks) >= 2


def test_ticks_are_round() -> None:
    assert [label for _, label in linear("x", [0.31, 0.58]).ticks] == [
        "0.3",
        "0.35",
        "0.4",
        "0.45",
        "0.5",
        "0.55",
        "0.6",
    ]
    assert [label for _, label in logarithmic("x", [3, 40]).ticks] == ["2", "5", "10", "20", "50"]
    assert [label for _, label in logarithmic("x", [0.3, 4e3]).ticks] == ["0.1", "1", "10", "100", "1000", "10000"]


def test_equal_ratios_are_equal_lengths_on_a_logarithmic_axis() -> None:
    axis = logarithmic("x", [1, 1000])
    assert axis.share(100) - axis.share(10) == pytest.approx(axis.share(10) - axis.share(1))


def test_names_stand_evenly_apart() -> None:
    axis = ordinal("x", ["a", "b", "c"])
    places = [axis.share(value) for value, name in axis.ticks if name]
    assert places == pytest.approx([1 / 6, 3 / 6, 5 / 6])
