"""Means over repeated runs, with 95 % confidence intervals by Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import msgspec

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# Two-sided 95 % (0.975 quantile) for 1 to 30 degrees of freedom: NIST/SEMATECH e-Handbook of Statistical Methods,
# section 1.3.6.7.2, "Critical Values of the Student's t Distribution".
_CRITICAL = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Estimate(msgspec.Struct, frozen=True):
    """A mean over `count` values. `ci95` is half of the width of its 95 % interval; None for a single value."""

    mean: float
    ci95: float | None
    count: int


class Ratio(msgspec.Struct, frozen=True):
    """A geometric mean of `count` ratios and its 95 % interval, which is even in the logarithm; None for one ratio."""

    mean: float
    low: float | None
    high: float | None
    count: int


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of independent values with its interval; None where there are no values."""
    if not values:
        return None
    mean, count = statistics.fmean(values), len(values)
    if count == 1:
        return Estimate(mean, None, 1)
    return Estimate(mean, critical_t(count - 1) * statistics.stdev(values) / math.sqrt(count), count)


def geometric(ratios: Sequence[float]) -> Ratio | None:
    """The geometric mean of positive ratios with its interval; None where there are no ratios."""
    logs = estimate([math.log(ratio) for ratio in ratios])
    if logs is None:
        return None
    mean = math.exp(logs.mean)
    if logs.ci95 is None:
        return Ratio(mean, None, None, logs.count)
    return Ratio(mean, math.exp(logs.mean - logs.ci95), math.exp(logs.mean + logs.ci95), logs.count)


def critical_t(freedom: int) -> float:
    """The 0.975 quantile of Student's t distribution with `freedom` degrees of freedom, at least 1.

    Above 30 by its expansion from the normal quantile: Abramowitz and Stegun, Handbook of Mathematical Functions,
    26.7.5, to the second power of 1 / `freedom`, which is exact to 3e-5 there.
    """
    if freedom <= len(_CRITICAL):
        return _CRITICAL[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / freedom + second / freedom**2


def paired(ours: Mapping[K, V], theirs: Mapping[K, V]) -> list[tuple[V, V]]:
    """What both have, ours first, in the order of ours: for differences on the same seed and split."""
    return [(value, theirs[key]) for key, value in ours.items() if key in theirs]
