from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiling.experiments.report.statistics import Estimate, critical_t, estimate, geometric, paired

Values = st.lists(st.floats(-100, 100), min_size=2, max_size=40)


def test_a_single_value_has_no_interval_and_no_value_has_no_estimate() -> None:
    assert estimate([0.5]) == Estimate(0.5, None, 1)
    assert estimate([]) is None
    assert geometric([]) is None
    lonely = geometric([4.0])
    assert lonely is not None
    assert (lonely.low, lonely.high, lonely.count) == (None, None, 1)


def test_the_interval_is_that_of_a_worked_example() -> None:
    """Three values 1, 2, 3: deviation 1, so 4.303 / sqrt(3)."""
    worked = estimate([1.0, 2.0, 3.0])
    assert worked is not None
    assert worked.ci95 == pytest.approx(4.303 / math.sqrt(3))


@given(Values, st.floats(-10, 10), st.floats(0.1, 10))
def test_intervals_move_with_the_values_and_stretch_with_them(values: list[float], shift: float, factor: float) -> None:
    plain, moved = estimate(values), estimate([factor * value + shift for value in values])
    assert plain is not None and plain.ci95 is not None
    assert moved is not None and moved.ci95 is not None
    assert moved.mean == pytest.approx(factor * plain.mean + shift, abs=1e-9)
    assert moved.ci95 == pytest.approx(factor * plain.ci95, abs=1e-9)


@given(Values)
def test_repeating_the_same_values_narrows_the_interval(values: list[float]) -> None:
    once, thrice = estimate(values), estimate(values * 3)
    assert once is not None and once.ci95 is not None
    assert thrice is not None and thrice.ci95 is not None
    assert thrice.ci95 <= once.ci95


def test_critical_values_fall_to_the_normal_quantile() -> None:
    values = [critical_t(freedom) for freedom in range(1, 200)]
    assert all(before > after for before, after in itertools.pairwise(values))
    assert critical_t(40) == pytest.approx(2.0211, abs=1e-4)
    assert critical_t(100) == pytest.approx(1.9840, abs=1e-4)
    assert critical_t(10**6) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-5)


@given(st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=20))
def test_the_geometric_mean_of_reciprocals_is_the_reciprocal(ratios: list[float]) -> None:
    plain, turned = geometric(ratios), geometric([1 / ratio for ratio in ratios])
    assert plain is not None and plain.low is not None
    assert turned is not None and turned.high is not None
    assert turned.mean == pytest.approx(1 / plain.mean)
    assert turned.high == pytest.approx(1 / plain.low)


def test_only_what_both_have_is_paired() -> None:
    assert paired({1: "a", 2: "b", 3: "c"}, {3: "C", 1: "A", 4: "D"}) == [("a", "A"), ("c", "C")]
