"""What one run had reached, and when."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from profiling.experiments.record import Result


class Evaluation(NamedTuple):
    """One evaluation: what all rounds up to it took. `device_s` is None where the profile has no device."""

    round: int
    bytes_total: int
    """Up and down together, of all devices."""
    device_s: float | None
    accuracy: float


def evaluations(result: Result) -> list[Evaluation]:
    """Those after a round, in their order; the one before the first round is not among them."""
    spent_bytes = accumulate(one.bytes_up + one.bytes_down for one in result.rounds)
    spent_s = accumulate((one.device_s for one in result.rounds), _add)
    return [
        Evaluation(one.round, spent, device_s, one.accuracy)
        for one, spent, device_s in zip(result.rounds, spent_bytes, spent_s, strict=True)
        if one.accuracy is not None
    ]


def _add(total_s: float | None, round_s: float | None) -> float | None:
    return None if total_s is None or round_s is None else total_s + round_s


def bytes_until(result: Result, accuracy: float) -> int | None:
    """Bytes up to the first evaluation with at least this accuracy; None if there was none."""
    return next((one.bytes_total for one in evaluations(result) if one.accuracy >= accuracy), None)


def accuracy_within(result: Result, budget_bytes: int) -> float | None:
    """Accuracy at the last evaluation that `budget_bytes` are enough for; None if they are not for the first."""
    within = [one.accuracy for one in evaluations(result) if one.bytes_total <= budget_bytes]
    return within[-1] if within else None
