"""Whether two runs, or two boards, differ by more than their rounds differ among themselves.

For each phase and figure: the difference of the medians over rounds, and its 95 % interval by the bootstrap (Efron and
Tibshirani, An Introduction to the Bootstrap, 1993, chapters 13 and 16): rounds are drawn with replacement from each
side, 4000 times, and the interval is that of the middle 95 % of the differences of medians. It takes no shape of the
noise for granted, and one round that was slow for a reason of its own moves it little. A difference counts where the
interval does not hold 0. Rounds are taken to be independent of each other; with 20 figures, one is expected to seem
different by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from profiling.rounds.figures import FIGURES, NONE, Figure, phases_of, values_of, written
from profiling.rounds.load import Device, Run
from profiling.table import Table

RESAMPLES = 4000
CONFIDENCE = 0.95
FEWEST = 3
"""Rounds on each side, below which nothing is concluded."""
SEED = 0


class Difference(msgspec.Struct, frozen=True):
    """One figure of one phase, second run against first; `low` to `high` is its interval, None for too few rounds."""

    phase: str
    figure: str
    first: float
    second: float
    rounds: tuple[int, int]
    low: float | None
    high: float | None
    digits: int

    @property
    def difference(self) -> float:
        """Of the medians."""
        return self.second - self.first

    @property
    def exceeds_noise(self) -> bool | None:
        """None where there are too few rounds to tell."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


def compare(first: Run, second: Run) -> list[Difference]:
    """Every figure that both have, of rounds that trained; devices of a run are taken together."""
    phases = list(dict.fromkeys(phase for run in (first, second) for one in run.devices for phase in phases_of(one)))
    return list(_differences(first.devices, second.devices, phases))


def difference_table(differences: Sequence[Difference]) -> Table:
    """A row a figure."""
    rows = [_cells(one) for one in differences]
    return Table(("phase", "figure", "A", "B", "B - A", "95 % interval", "rounds", ""), rows, words=2)


def interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the difference of medians."""
    generator = np.random.default_rng(SEED)
    differences = _medians(generator, second) - _medians(generator, first)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(differences, (tail, 1 - tail))
    return float(low), float(high)


def _differences(first: Sequence[Device], second: Sequence[Device], phases: list[str]) -> Iterator[Difference]:
    for phase in phases:
        for figure in FIGURES:
            before, after = _values(first, phase, figure), _values(second, phase, figure)
            if not before or not after:
                continue
            low, high = interval(before, after) if min(len(before), len(after)) >= FEWEST else (None, None)
            medians = float(np.median(before)), float(np.median(after))
            counts = len(before), len(after)
            yield Difference(phase, figure.name, *medians, counts, low, high, figure.digits)


def _values(devices: Sequence[Device], phase: str, figure: Figure) -> list[float]:
    return [value for one in devices for value in values_of(one, phase, figure, one.trained)]


def _cells(one: Difference) -> tuple[str, ...]:
    digits = one.digits
    known = one.low is not None and one.high is not None
    return (
        one.phase,
        one.figure,
        written(one.first, digits),
        written(one.second, digits),
        f"{one.difference:+.{digits}f}",
        f"{one.low:+.{digits}f} to {one.high:+.{digits}f}" if known else NONE,
        f"{one.rounds[0]}, {one.rounds[1]}",
        {True: "*", False: "", None: "?"}[one.exceeds_noise],
    )


def _medians(generator: np.random.Generator, values: Sequence[float]) -> npt.NDArray[np.float64]:
    drawn = generator.choice(np.asarray(values, np.float64), (RESAMPLES, len(values)))
    return np.median(drawn, axis=1)
