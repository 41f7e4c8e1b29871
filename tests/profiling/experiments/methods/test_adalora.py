"""AdaLoRA in a federation: masks of the clients' own, zero-padded averages, and factors kept near orthogonal."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.experiments.method import ALL, Client
from profiling.experiments.methods.adalora import AdaLora, orthogonal, own_mask, slope
from profiling.experiments.methods.averaging import planned
from tests.peers import CLIENTS, LAYOUT, TOLERANCE, a_round, a_setup, client_state

METHOD = AdaLora()
SETUP = a_setup(rounds=8)


def test_a_client_follows_the_schedule_with_a_mask_that_only_shrinks() -> None:
    model, before = METHOD.start(SETUP), SETUP.alive
    for number in range(1, 9):
        mask = own_mask(SETUP, model, CLIENTS[0], number)
        assert mask.sum() == planned(SETUP, model, number - 1).budget_ranks
        assert not (mask & ~before).any()
        model, _ = a_round(METHOD, SETUP, model, number)
        before = mask


def test_clients_keep_ranks_of_their_own() -> None:
    model = METHOD.start(SETUP)
    for number in range(1, 6):
        model, _ = a_round(METHOD, SETUP, model, number)
    first, second = (own_mask(SETUP, model, client, 6) for client in CLIENTS[:2])
    assert not np.array_equal(first, second)


def test_a_client_keeps_the_ranks_that_it_scored_best() -> None:
    model = METHOD.start(SETUP)
    for number in (1, 2, 3):
        model, uploads = a_round(METHOD, SETUP, model, number)
    scores = uploads[0].update.scores
    kept = own_mask(SETUP, model, CLIENTS[0], 5)
    dropped = uploads[0].update.changes.ranks & ~kept
    assert dropped.any()
    assert scores[kept].min() >= scores[dropped].max()


def test_a_client_that_never_trained_goes_by_the_mean_scores() -> None:
    model, _ = a_round(METHOD, SETUP, METHOD.start(SETUP), 1)
    mask = own_mask(SETUP, model, Client(9, 5, 1.0), 5)
    assert model.fleet.importance[mask].min() >= model.fleet.importance[SETUP.alive & ~mask].max()


def test_the_diagonal_is_the_mean_with_zeros_for_what_clients_pruned() -> None:
    model = METHOD.start(SETUP)
    for number in range(1, 6):
        before = model
        model, uploads = a_round(METHOD, SETUP, before, number)
    total = sum(client.examples for client in CLIENTS)
    for index, module in enumerate(LAYOUT.modules):
        mean = np.zeros(LAYOUT.slots)
        for one in uploads:
            e = client_state(before.fleet.state, one, ALL)[module.name][:, module.d_in]
            mean += one.update.examples / total * e * one.update.changes.ranks[index]
        assert np.allclose(model.fleet.state.rows[module.name][:, module.d_in], mean, atol=TOLERANCE)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_the_slope_is_that_of_the_regulariser(seed: int, count: int) -> None:
    draws = np.random.default_rng(seed)
    rows, step = draws.standard_normal((2, count, 6))

    def penalty(values: np.ndarray) -> float:
        return float(np.linalg.norm(values @ values.T - np.eye(count)) ** 2)

    tiny = 1e-5
    numeric = (penalty(rows + tiny * step) - penalty(rows - tiny * step)) / (2 * tiny)
    assert np.isclose((slope(rows) * step).sum(), numeric, rtol=1e-4, atol=1e-3)


def test_orthonormal_factors_are_left_alone_and_the_diagonal_always() -> None:
    rows = {"wide": np.zeros((2, 15), np.float32), "tall": np.ones((2, 13), np.float32)}
    rows["wide"][[0, 1], [2, 5]] = 1
    rows["wide"][[0, 1], [8, 14]] = 1
    gradients = {name: np.zeros_like(table) for name, table in rows.items()}
    changed = orthogonal(LAYOUT, 0.1)(rows, gradients)
    assert not changed["wide"].any()
    assert changed["tall"].any() and not changed["tall"][:, 7].any()
