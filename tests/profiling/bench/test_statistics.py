from __future__ import annotations

from profiling.bench.statistics import median, spread


def test_the_spread_is_the_interquartile_range() -> None:
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == 2.0
    assert spread([1.0, 3.0]) == 1.0
    assert spread([7.0]) == 0.0


def test_one_outlier_moves_the_median_little() -> None:
    assert median([1.0, 2.0, 3.0, 100.0, 2.0]) == 2.0
