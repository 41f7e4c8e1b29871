"""How many ranks are to live, and what share of votes keeps one, where nobody set it: by what the rounds showed.

After each round the ranks shrink towards the number that holds `MASS` of the squared importance, as far as the devices
agree on which these are: where votes are no better than chance, pruning would be chance too. While the loss goes up,
nothing is pruned, and never more than half in one round.

A rank is voted in where it has more of the votes than it had by chance. That is the budget's share of the living ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.arbitrate import Ballot
from edge_agent.wire.ranks import Mask

Float64 = npt.NDArray[np.float64]

MASS = 0.95
RISE = 1.05
"""A loss above so many times the least so far is going up: batches alone let it move by a few percent."""


@dataclass(frozen=True)
class Sign:
    """What one round showed: the mean training loss; the ranks that hold `MASS` of the squared importance; and how far
    the votes agreed, from 0 for chance to 1."""

    loss: float
    needed_ranks: int
    agreement: float


def read_sign(loss: float, mask: Mask, ballot: Ballot, importance: Float64, voted: int) -> Sign:
    """The sign of a round from its `ballot`, in which devices voted for `voted` of the ranks of `mask`."""
    return Sign(loss, _needed(importance[mask]), _agreement(ballot, mask, voted))


def budget_ranks(signs: Sequence[Sign], living: int, least: int) -> int:
    """Ranks that are to live after the next round: at most `living`, at least `least`.

    Args:
        signs: of all rounds in which devices trained, the oldest first.
        living: ranks that live now.
        least: ranks that are always kept.
    """
    if not signs or _rising([sign.loss for sign in signs]):
        return living
    last = signs[-1]
    surplus = last.agreement * max(0, living - last.needed_ranks)
    return max(min(living, least), math.ceil(living / 2), living - math.floor(surplus))


def threshold(voted: int, living: int) -> float:
    """The share of votes that a rank has by chance, where devices vote for `voted` of `living` ranks."""
    return voted / max(living, 1)


def _rising(losses: Sequence[float]) -> bool:
    return losses[-1] > RISE * min(losses)


def _needed(importance: Float64) -> int:
    """The fewest ranks that hold `MASS` of the squared importance; all where there is none."""
    squares = np.sort(np.square(importance))[::-1]
    total = squares.sum()
    return int(np.searchsorted(np.cumsum(squares), MASS * total) + 1) if total > 0 else len(squares)


def _agreement(ballot: Ballot, mask: Mask, voted: int) -> float:
    """The mean share of votes of the `voted` best ranks, less what chance gives, as a part of the most it could be.

    With a single device it is 1: whoever trains alone decides alone.
    """
    chance = threshold(voted, int(mask.sum()))
    if chance >= 1:
        return 0.0
    best = np.sort(ballot.shares()[mask])[::-1][:voted]
    return float(np.clip((best.mean() - chance) / (1 - chance), 0, 1))
