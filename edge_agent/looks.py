"""A board's heat, clock and power over time, and what of it falls into a phase."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from edge_agent.sensors.board import Look

MOST = 1024
"""Looks that are kept: beyond, every two neighbours become one, so that a long phase takes no more memory."""


class Seen(NamedTuple):
    """What was seen of the board in a phase; None where it tells nothing."""

    energy_j: float | None
    temperature_c: float | None
    """The highest."""
    clock_hz: int | None
    """The lowest."""
    gpu_clock_hz: int | None
    """The lowest."""
    slowed: tuple[str, ...]


class Looks:
    """Looks in the order of their times."""

    def __init__(self) -> None:
        self._looks: list[Look] = []

    def add(self, look: Look) -> None:
        """A look later than all before it."""
        self._looks.append(look)
        if len(self._looks) > MOST:
            # The first and the last stay as they are: they bound what can be asked.
            inner = self._looks[1:-1]
            merged = [_merge(*inner[place : place + 2]) for place in range(0, len(inner), 2)]
            self._looks = [self._looks[0], *merged, self._looks[-1]]

    @property
    def last(self) -> Look | None:
        """The newest."""
        return self._looks[-1] if self._looks else None

    def between(self, start_s: float, end_s: float) -> Seen:
        """From one moment to another; energy by straight lines between looks, the rest of looks around and within."""
        times = [look.time_s for look in self._looks]
        first, last = max(0, bisect_right(times, start_s) - 1), bisect_left(times, end_s) + 1
        some = self._looks[first:last]
        temperatures = [look.temperature_c for look in some if look.temperature_c is not None]
        clocks = [look.clock_hz for look in some if look.clock_hz is not None]
        gpu_clocks = [look.gpu_clock_hz for look in some if look.gpu_clock_hz is not None]
        start_j, end_j = self._energy_j(start_s), self._energy_j(end_s)
        return Seen(
            energy_j=None if start_j is None or end_j is None else end_j - start_j,
            temperature_c=max(temperatures, default=None),
            clock_hz=min(clocks, default=None),
            gpu_clock_hz=min(gpu_clocks, default=None),
            slowed=tuple(dict.fromkeys(words for look in some for words in look.slowed)),
        )

    def forget_before(self, time_s: float) -> None:
        """Drops what no phase that begins at `time_s` or later will ask for."""
        times = [look.time_s for look in self._looks]
        del self._looks[: max(0, bisect_right(times, time_s) - 1)]

    def _energy_j(self, time_s: float) -> float | None:
        """Up to one moment; before the first look and after the last, as at these."""
        times = [look.time_s for look in self._looks]
        after = bisect_left(times, time_s)
        low, high = self._looks[max(0, after - 1) : after + 1], self._looks[after : after + 1]
        if not low:
            return None
        before, behind = low[0], (high or low[-1:])[0]
        if before.energy_j is None or behind.energy_j is None:
            return None
        span_s = behind.time_s - before.time_s
        share = min(1.0, max(0.0, (time_s - before.time_s) / span_s)) if span_s > 0 else 0.0
        return before.energy_j + share * (behind.energy_j - before.energy_j)


def _merge(first: Look, second: Look | None = None) -> Look:
    """One look at the time of the second, with the extremes of both."""
    if second is None:
        return first
    temperatures = [one for one in (first.temperature_c, second.temperature_c) if one is not None]
    clocks = [one for one in (first.clock_hz, second.clock_hz) if one is not None]
    gpu_clocks = [one for one in (first.gpu_clock_hz, second.gpu_clock_hz) if one is not None]
    return second._replace(
        temperature_c=max(temperatures, default=None),
        clock_hz=min(clocks, default=None),
        gpu_clock_hz=min(gpu_clocks, default=None),
        slowed=tuple(dict.fromkeys((*first.slowed, *second.slowed))),
    )
