"""The laws of the rule that sets ranks and threshold where nobody did."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.arbitrate import Ballot
from coordinator.automatic import MASS, RISE, Sign, budget_ranks, read_sign, threshold

signs = st.lists(
    st.builds(Sign, loss=st.floats(0.01, 10), needed_ranks=st.integers(1, 400), agreement=st.floats(0, 1)),
    min_size=1,
    max_size=5,
)
counts = st.integers(1, 400)


def a_ballot(*votes: list[int], weights: tuple[int, ...] = ()) -> Ballot:
    """Every device trained everything; a row of zeros and ones is what it voted for."""
    of_devices = np.array(votes)[:, None, :]
    examples = np.array(weights or (1,) * len(votes))[:, None, None]
    trained = np.full(of_devices.shape[1:], examples.sum())
    return Ballot((of_devices * examples).sum(axis=0), trained, np.zeros_like(trained))


def agreement_of(ballot: Ballot, voted: int) -> float:
    mask = np.ones(ballot.votes.shape, np.bool_)
    return read_sign(1.0, mask, ballot, np.ones(mask.shape), voted).agreement


def needed_of(importance: list[float], alive: list[bool] | None = None) -> int:
    mask = np.array([alive or [True] * len(importance)])
    return read_sign(1.0, mask, a_ballot([0] * len(importance)), np.array([importance]), 1).needed_ranks


@given(signs, counts, counts)
def test_the_budget_never_grows_and_at_most_halves(shown: list[Sign], living: int, least: int) -> None:
    assert math.ceil(living / 2) <= budget_ranks(shown, living, least) <= living


@given(signs, counts, counts)
def test_the_budget_never_falls_below_the_least(shown: list[Sign], living: int, least: int) -> None:
    assert budget_ranks(shown, living, least) >= min(living, least)


@given(signs, counts)
def test_no_rank_is_pruned_that_is_needed(shown: list[Sign], living: int) -> None:
    assert budget_ranks(shown, living, 1) >= min(living, shown[-1].needed_ranks)


@given(signs, counts)
def test_votes_that_are_chance_prune_nothing(shown: list[Sign], living: int) -> None:
    by_chance = [*shown, Sign(0.01, 1, agreement=0.0)]
    assert budget_ranks(by_chance, living, 1) == living


@given(signs, counts)
def test_a_loss_that_goes_up_prunes_nothing(shown: list[Sign], living: int) -> None:
    least_loss = min(sign.loss for sign in shown)
    rising = [*shown, Sign(least_loss * RISE * 1.01, 1, agreement=1.0)]
    assert budget_ranks(rising, living, 1) == living


def test_a_loss_that_only_sways_does_not_stop_pruning() -> None:
    swaying = [Sign(1.0, 1, 1.0), Sign((1.0 + RISE) / 2, 1, 1.0)]
    assert budget_ranks(swaying, 8, 1) == 4


@given(counts)
def test_nothing_is_pruned_before_anything_was_shown(living: int) -> None:
    assert budget_ranks([], living, 1) == living


def test_full_agreement_goes_all_the_way_to_what_is_needed() -> None:
    assert budget_ranks([Sign(1.0, 70, 1.0)], 100, 1) == 70
    assert budget_ranks([Sign(1.0, 70, 0.5)], 100, 1) == 85


def test_identical_votes_agree_fully() -> None:
    votes = [1, 1, 0, 0, 0, 0]
    assert agreement_of(a_ballot(votes, votes, votes), voted=2) == 1


def test_votes_spread_evenly_do_not_agree() -> None:
    assert agreement_of(a_ballot([1, 1, 0, 0], [0, 0, 1, 1]), voted=2) == 0


def test_agreement_counts_devices_by_their_examples() -> None:
    votes = [1, 1, 0, 0], [0, 0, 1, 1]
    assert agreement_of(a_ballot(*votes, weights=(3, 1)), voted=2) == pytest.approx(0.5)


def test_votes_for_everything_say_nothing() -> None:
    assert agreement_of(a_ballot([1, 1, 1], [1, 1, 1]), voted=3) == 0


@given(st.lists(st.lists(st.integers(0, 1), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 6))
def test_agreement_lies_between_chance_and_unanimity(votes: list[list[int]], voted: int) -> None:
    assert 0 <= agreement_of(a_ballot(*votes), voted) <= 1


@given(st.lists(st.floats(1e-3, 1), min_size=1, max_size=20))
def test_needed_ranks_are_the_fewest_that_hold_the_mass(importance: list[float]) -> None:
    squares = sorted((one**2 for one in importance), reverse=True)
    needed = needed_of(importance)
    assert math.fsum(squares[:needed]) >= MASS * math.fsum(squares) * (1 - 1e-12)
    assert math.fsum(squares[: needed - 1]) <= MASS * math.fsum(squares) * (1 + 1e-12)


def test_ranks_that_do_not_live_are_not_needed() -> None:
    assert needed_of([9.0, 1.0, 1.0], [False, True, True]) == 2


def test_where_no_rank_has_importance_all_are_needed() -> None:
    assert needed_of([0.0, 0.0, 0.0]) == 3


@given(counts, counts)
def test_the_threshold_is_the_share_of_votes_by_chance(voted: int, living: int) -> None:
    chance = threshold(min(voted, living), living)
    assert 0 < chance <= 1
    assert chance * living == pytest.approx(min(voted, living))


def test_without_living_ranks_there_is_a_threshold_nevertheless() -> None:
    assert threshold(0, 0) == 0
