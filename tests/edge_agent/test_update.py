from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.update import Part, drop_pruned, local_votes, make_statistics, make_update, relative
from edge_agent.wire.class_statistics import statistics_layout
from edge_agent.wire.codec import decode_update, encode_update
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows, compact
from edge_agent.wire.rng import generator
from edge_agent.wire.state import ModelState, seed_state

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=4, classes=2, d_model=4)
LIVING = np.array([[True, True, False, True], [True, True, True, False]])
TRAINED = np.array([[False, False, False, False], [True, False, True, False]])
SCORES = np.where(TRAINED, np.arange(8.0).reshape(2, 4), 0)
NAMES = st.sampled_from(sorted(SCHEMES))


def _state() -> ModelState:
    return dataclasses.replace(seed_state(LAYOUT, 1), mask=LIVING, version=6)


def _part(name: str = "int8") -> Part:
    return Part(round=7, trained=TRAINED, budget_ranks=3, examples=50, scheme=SCHEMES[name])


def _after(state: ModelState, seed: int) -> Rows:
    rows = compact(LAYOUT, state.rows, LIVING)
    return {name: table + generator(seed, name).gaussian(table.shape, 0.01) for name, table in rows.items()}


def _noise(seed: int) -> Rows:
    return {name: generator(seed, name).gaussian(table.shape, 0.001) for name, table in LAYOUT.empty_rows().items()}


@given(NAMES, st.integers(0, 50))
def test_what_is_sent_plus_what_is_kept_is_the_change_plus_what_was_kept(name: str, seed: int) -> None:
    state, residual = _state(), _noise(seed)
    after = _after(state, seed + 99)
    update, left = make_update(_part(name), state, after, SCORES, residual)
    sent = update.changes.rows()
    change = after["high"][[0, 2]] - state.rows["high"][[0, 2]]
    assert np.allclose(sent["high"] + left["high"][[0, 2]], change + residual["high"][[0, 2]], atol=1e-6)
    assert np.allclose(sent[HEAD] + left[HEAD], after[HEAD] - state.rows[HEAD] + residual[HEAD], atol=1e-6)
    assert sent["low"].shape == (0, 11)


def test_pruned_ranks_lose_their_residual_and_untrained_ones_keep_it() -> None:
    state, residual = _state(), _noise(3)
    _, left = make_update(_part(), state, _after(state, 4), SCORES, residual)
    assert not left["low"][2].any() and not left["high"][3].any()
    assert np.array_equal(left["low"][[0, 1, 3]], residual["low"][[0, 1, 3]])
    assert np.array_equal(left["high"][1], residual["high"][1])
    assert residual["low"][2].any()
    assert not drop_pruned(state, residual)["low"][2].any()


def test_the_update_travels() -> None:
    state = _state()
    update, _ = make_update(_part(), state, _after(state, 4), SCORES, LAYOUT.empty_rows())
    back = decode_update(encode_update(update, LAYOUT), LAYOUT, limit_bytes=10_000, allowed=TRAINED)
    assert (back.round, back.version, back.examples) == (7, 6, 50)
    assert np.array_equal(back.votes, update.votes)
    assert np.array_equal(back.scores, update.scores)


def _statistics() -> Rows:
    """Of a device that has but the second class."""
    table = np.zeros((4, 5), np.float32)
    table[1] = [0.5, -2.0, 0.25, 3.0, 1.0]
    return {HEAD: table}


@given(NAMES)
def test_statistics_of_classes_travel_without_a_rank(name: str) -> None:
    update = make_statistics(_part(name), _state(), _statistics())
    layout = statistics_layout(LAYOUT)
    back = decode_update(encode_update(update, layout), layout, limit_bytes=10_000)
    assert (back.round, back.version, back.examples) == (7, 6, 50)
    assert not (back.votes.size or back.scores.size or back.changes.ranks.size)
    assert back.changes.classes.tolist() == [False, True, False, False], "classes that do not occur are not sent"
    (row,) = back.changes.rows()[HEAD]
    np.testing.assert_allclose(row[:-1], _statistics()[HEAD][1, :-1], atol=0.25 if name == "int4" else 0.02)
    assert row[-1] == 1, "shares are exact in every scheme"


def test_what_quantisation_takes_from_statistics_is_not_kept() -> None:
    """They are no change of the head, so what they lack must not be added to one."""
    state, means = _state(), _statistics()
    before = {name: table.copy() for name, table in state.rows.items()}
    make_statistics(_part("int4"), state, means)
    assert np.array_equal(means[HEAD], _statistics()[HEAD])
    assert all(np.array_equal(state.rows[name], before[name]) for name in before)


def test_a_device_votes_for_the_budget_s_share_of_what_it_trained() -> None:
    votes = local_votes(SCORES, TRAINED, budget_ranks=3, living_ranks=6)
    assert votes.tolist() == [[False] * 4, [False, False, True, False]]
    assert local_votes(SCORES, TRAINED, budget_ranks=6, living_ranks=6).tolist() == TRAINED.tolist()


@given(st.lists(st.floats(0, 1e30), min_size=4, max_size=4))
def test_relative_scores_are_shares_of_the_best(values: list[float]) -> None:
    shares = relative(np.array(values).reshape(2, 2))
    assert shares.max() == (1 if max(values) > 0 else 0)
    assert (shares >= 0).all()
    assert np.array_equal(shares, shares.astype(np.float16))


def test_a_diverged_training_is_refused_before_it_is_sent() -> None:
    state = _state()
    after = _after(state, 4)
    after[HEAD][0, 0] = np.nan
    with np.errstate(invalid="ignore"):
        update, _ = make_update(_part(), state, after, SCORES, LAYOUT.empty_rows())
    with pytest.raises(PayloadError, match="diverge"):
        encode_update(update, LAYOUT)
