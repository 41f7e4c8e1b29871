"""Which ranks live on: the devices' votes, counted and brought to exactly the budget.

A ballot holds integer sums only, so neither its size nor its result depends on how many devices voted, or in which
order. Each vote weighs as many examples as its device trained on, and counts over the devices that trained the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from edge_agent.wire.codec import Update
from edge_agent.wire.ranks import Layout, Mask

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Rule = Literal["share", "score"]

_SCORE_ONE = 2**24  # the finest step of a float16 is 2**-24, so scores in [0, 1] are exact integers of it
_VOTED_IN, _NOBODY, _VOTED_OUT = 0, 1, 2


@dataclass(frozen=True)
class Ballot:
    """Sums over the devices of one round, `(modules, slots)` each, every one weighted by examples."""

    votes: Int64
    trained: Int64
    scores: Int64

    def importance(self, previous: Float64) -> Float64:
        """Mean score in [0, 1] of the ranks that somebody trained; `previous` for the others."""
        return np.where(self.trained > 0, self._mean_scores() / _SCORE_ONE, previous)

    def shares(self) -> Float64:
        """Share of the votes in [0, 1]; 0 where nobody trained. One correctly rounded division of exact integers."""
        return np.asarray(self.votes / np.maximum(self.trained, 1), dtype=np.float64)

    def _mean_scores(self) -> Int64:
        return np.asarray(self.scores // np.maximum(self.trained, 1), dtype=np.int64)


def empty_ballot(layout: Layout) -> Ballot:
    """A ballot without votes."""
    votes, trained, scores = np.zeros((3, len(layout.modules), layout.slots), dtype=np.int64)
    return Ballot(votes, trained, scores)


def cast(ballot: Ballot, update: Update) -> Ballot:
    """`ballot` with one device's votes; the order of devices does not matter.

    No sum can overflow: a round counts at most 2**28 examples (the aggregator refuses more) and scores 2**24.
    """
    scores = (update.scores.astype(np.float64) * _SCORE_ONE).astype(np.int64)
    return Ballot(
        ballot.votes + update.votes * np.int64(update.examples),
        ballot.trained + update.changes.ranks * np.int64(update.examples),
        ballot.scores + scores * np.int64(update.examples),
    )


@dataclass(frozen=True)
class Verdict:
    """What lives on, and how far the votes were from the budget."""

    mask: Mask
    voted_in: int
    """Ranks whose share reached the threshold, before the budget was met."""


def arbitrate(
    mask: Mask, ballot: Ballot, importance: Float64, budget: int, threshold: float, rule: Rule = "share"
) -> Verdict:
    """Exactly `budget` ranks of `mask`, or all of them if no more live.

    Ranks stand in three tiers: those whose share of votes reaches `threshold`; those that nobody trained this round,
    since absence is no vote; those below. Within a tier the order is by share, then by `importance` (as
    `Ballot.importance` gives it, so a rank that nobody trained keeps its last one), then by index. Rule `score`
    leaves the share out of the order within a tier. The best `budget` ranks of that order live: the best below the
    threshold fill up, the worst above it go.

    Args:
        mask: `(modules, slots)`, what lives now.
        ballot: the round's votes.
        importance: `(modules, slots)`.
        budget: ranks that are to live after the round.
        threshold: share of votes in [0, 1].
        rule: order within a tier.
    """
    shares = ballot.shares()
    tier = np.where(shares >= threshold, _VOTED_IN, _VOTED_OUT)
    tier[ballot.trained == 0] = _NOBODY
    within = shares if rule == "share" else np.zeros_like(shares)
    living = np.flatnonzero(mask)
    keys = [-importance.flat[living], -within.flat[living], tier.flat[living]]
    order = living[np.lexsort(keys)]  # stable, the last key first: ties go to the lower index
    kept = np.zeros(mask.size, dtype=np.bool_)
    kept[order[:budget]] = True
    return Verdict(kept.reshape(mask.shape), int((tier[mask] == _VOTED_IN).sum()))
