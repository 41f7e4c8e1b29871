"""Axes of charts: ticks at round values, linear, logarithmic, or one place a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from profiling.plot import tick_step

_LEAST_SPAN = 1e-6
_FEW_DECADES = 2


class Axis(NamedTuple):
    """`ticks` are values in ascending order with what is written at them; the axis ends at the outer ones."""

    label: str
    ticks: tuple[tuple[float, str], ...]
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where `value` lies: 0 at the first tick, 1 at the last."""
        low, high, here = (self._scaled(v) for v in (self.ticks[0][0], self.ticks[-1][0], value))
        return (here - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def linear(label: str, values: Sequence[float]) -> Axis:
    """Round ticks around all `values`, of which there is one at least."""
    low, high = min(values), max(values)
    step = tick_step(max(high - low, _LEAST_SPAN * max(1.0, abs(high))))
    first, last = math.floor(low / step), math.ceil(high / step)
    last = max(last, first + 1)
    return Axis(label, tuple((number * step, f"{number * step:g}") for number in range(first, last + 1)))


def logarithmic(label: str, values: Sequence[float]) -> Axis:
    """Powers of ten around all `values`, which are positive; where they are few, their double and fivefold too."""
    first, last = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    factors = (1, 2, 5) if last - first <= _FEW_DECADES else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    start = max(index for index, tick in enumerate(ticks) if tick <= min(values) or index == 0)
    end = min(index for index, tick in enumerate(ticks) if tick >= max(values) and index > start)
    return Axis(label, tuple((tick, f"{tick:g}") for tick in ticks[start : end + 1]), is_log=True)


def ordinal(label: str, names: Sequence[str]) -> Axis:
    """Place 0 for the first name, 1 for the next, and so on; half a place of room at both ends."""
    named = tuple((float(place), name) for place, name in enumerate(names))
    return Axis(label, ((-0.5, ""), *named, (len(names) - 0.5, "")))
