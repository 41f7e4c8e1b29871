from __future__ import annotations

from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coordinator.arbitrate import Ballot, arbitrate, cast, empty_ballot
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Mask, Module
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import quantise_rows

LAYOUT = Layout((Module("low", 0, 2, 2), Module("high", 1, 2, 2)), slots=4, classes=2, d_model=2)
FULL = LAYOUT.full_mask()
NOTHING = np.zeros((2, 4))


def _update(trained: Mask, votes: Mask, scores: np.ndarray, examples: int) -> Update:
    change = {m.name: np.zeros((len(slots), m.width), dtype=np.float32) for m, slots in LAYOUT.living(trained)}
    change[HEAD] = np.zeros((2, 3), dtype=np.float32)
    row_set, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), trained, SCHEMES["fp32"])
    rounded = np.where(trained, scores, 0).astype(np.float16).astype(np.float32)
    return Update(1, 0, examples, votes & trained, rounded, row_set)


def _random(seed: int) -> Update:
    draws = generator(seed, "update")
    trained, votes = (draws.uniform(8).reshape(2, 4) < share for share in (0.7, 0.5))
    return _update(trained, votes, draws.uniform(8).reshape(2, 4), int(draws.integers(1, 500)[0]) + 1)


def _mask(*indices: int) -> Mask:
    mask = np.zeros(8, dtype=np.bool_)
    mask[list(indices)] = True
    return mask.reshape(2, 4)


def _count(*updates: Update) -> Ballot:
    return reduce(cast, updates, empty_ballot(LAYOUT))


def _kept(ballot: Ballot, budget: int, threshold: float = 0.5, mask: Mask = FULL) -> list[int]:
    verdict = arbitrate(mask, ballot, ballot.importance(NOTHING), budget, threshold)
    return np.flatnonzero(verdict.mask).tolist()


@given(
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(0, 255),
    st.integers(0, 9),
    st.floats(0, 1),
    st.sampled_from(["share", "score"]),
)
def test_the_budget_is_met_exactly_and_masks_only_shrink(
    seeds: list[int], bits: int, budget: int, threshold: float, rule: str
) -> None:
    mask = np.array([bits >> i & 1 for i in range(8)], dtype=np.bool_).reshape(2, 4)
    ballot = _count(*(_random(seed) for seed in seeds))
    kept = arbitrate(mask, ballot, ballot.importance(NOTHING), budget, threshold, rule).mask  # type: ignore[arg-type]
    assert kept.sum() == min(budget, mask.sum())
    assert not (kept & ~mask).any()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.randoms(use_true_random=False), st.integers(0, 8))
def test_the_order_of_devices_does_not_matter(seeds: list[int], random: object, budget: int) -> None:
    shuffled = list(seeds)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (_count(*(_random(seed) for seed in order)) for order in (seeds, shuffled))
    assert np.array_equal(one.scores, other.scores)
    assert _kept(one, budget) == _kept(other, budget)


@given(st.lists(st.integers(0, 40), max_size=4), st.integers(0, 7))
def test_a_smaller_budget_keeps_a_subset(seeds: list[int], budget: int) -> None:
    ballot = _count(*(_random(seed) for seed in seeds))
    assert set(_kept(ballot, budget)) <= set(_kept(ballot, budget + 1))


def test_votes_weigh_as_many_examples_as_were_trained_on() -> None:
    many = _update(FULL, _mask(0, 1), NOTHING, 100)
    few = _update(FULL, _mask(2, 3), NOTHING, 30)
    assert _kept(_count(many, few), 2) == [0, 1]
    assert np.allclose(_count(many, few).shares().flat[:4], [100 / 130, 100 / 130, 30 / 130, 30 / 130])


def test_shares_count_over_the_devices_that_trained_the_rank() -> None:
    shallow = _update(_mask(4, 5), _mask(4), NOTHING, 900)
    deep = _update(FULL, _mask(0, 4), NOTHING, 10)
    shares = _count(shallow, deep).shares()
    assert shares.flat[0] == 1 and shares.flat[4] == 1
    assert _kept(_count(shallow, deep), 2) == [0, 4]


def test_a_rank_that_nobody_trained_stands_between_those_voted_in_and_out() -> None:
    ballot = _count(_update(_mask(0, 1, 2, 3), _mask(2, 3), NOTHING, 10))
    assert _kept(ballot, 2) == [2, 3]
    assert _kept(ballot, 5) == [2, 3, 4, 5, 6]
    assert _kept(ballot, 7) == [0, 2, 3, 4, 5, 6, 7]


def test_untrained_ranks_are_ordered_by_their_last_importance() -> None:
    last = np.array([[0, 0, 0, 0], [0.1, 0.9, 0.3, 0.2]])
    ballot = _count(_update(_mask(0), _mask(0), NOTHING, 10))
    importance = ballot.importance(last)
    assert np.array_equal(importance[1], last[1])
    assert np.flatnonzero(arbitrate(FULL, ballot, importance, 2, 0.5).mask).tolist() == [0, 5]


def test_equal_shares_are_ordered_by_score_then_by_index() -> None:
    scores = np.array([[0.1, 0.2, 0.2, 0.1], [0.1, 0.1, 0.1, 0.1]])
    ballot = _count(_update(FULL, FULL, scores, 10))
    assert _kept(ballot, 2) == [1, 2]
    assert _kept(ballot, 3) == [0, 1, 2]


def test_the_score_rule_ignores_shares_within_a_tier() -> None:
    scores = np.array([[0.1, 0.9, 0, 0], [0, 0, 0, 0]])
    one = _update(FULL, _mask(0, 1), scores, 10)
    other = _update(FULL, _mask(0), scores, 5)
    ballot = _count(one, other)
    importance = ballot.importance(NOTHING)
    assert np.flatnonzero(arbitrate(FULL, ballot, importance, 1, 0.5, "share").mask).tolist() == [0]
    assert np.flatnonzero(arbitrate(FULL, ballot, importance, 1, 0.5, "score").mask).tolist() == [1]


def test_the_threshold_is_reached_at_equality() -> None:
    ballot = _count(_update(FULL, _mask(0), NOTHING, 10), _update(FULL, _mask(1), NOTHING, 10))
    assert arbitrate(FULL, ballot, NOTHING, 8, 0.5).voted_in == 2
    assert arbitrate(FULL, ballot, NOTHING, 8, 0.51).voted_in == 0


def test_mean_scores_are_the_examples_weighted_mean() -> None:
    low, high = np.full((2, 4), 0.25), np.full((2, 4), 0.75)
    ballot = _count(_update(FULL, FULL, low, 30), _update(FULL, FULL, high, 10))
    assert np.allclose(ballot.importance(NOTHING), 0.375)
