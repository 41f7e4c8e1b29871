from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.ranks import HEAD
from profiling.experiments.method import Client, Model, Setup
from profiling.experiments.methods import hetlora
from profiling.experiments.methods.hetlora import HetLora
from tests.profiling.experiments.methods.fleet import (
    LAYOUT,
    make_client,
    make_setup,
    play,
    product,
    train,
    with_learned,
)

MIXED = [make_client(0, 0.25), make_client(1, 1.0), make_client(2, 0.5)]


def in_training(method: HetLora) -> tuple[Setup, Model]:
    setup = make_setup()
    return setup, with_learned(setup, method.start(setup))


@pytest.mark.parametrize(("share", "rank"), [(1.0, 4), (0.5, 2), (0.3, 1), (0.01, 1)])
def test_client_holds_first_slots_of_its_rank(share: float, rank: int) -> None:
    method = HetLora()
    setup, model = in_training(method)
    task = method.task(setup, model, make_client(0, share), 1)
    assert task.state is not None
    assert (task.trained == task.state.mask).all()
    assert task.trained[:, :rank].all()
    assert not task.trained[:, rank:].any()


def test_mean_is_of_padded_factors_by_norm_of_products() -> None:
    method = HetLora()
    setup, model = in_training(method)
    after, rows = play(method, setup, model, MIXED)
    assert not after.memory, "no client pruned itself, so all rows count"
    norms = [np.sqrt(sum(np.sum(product(m, one) ** 2) for m in LAYOUT.modules)) for one in rows]
    for module in LAYOUT.modules:
        expected = np.average([one[module.name] for one in rows], axis=0, weights=norms)
        expected[:, module.d_in] = 1
        np.testing.assert_allclose(after.fleet.state.rows[module.name], expected, atol=1e-6)


def test_head_is_averaged_by_examples() -> None:
    method = HetLora()
    setup, model = in_training(method)
    after, rows = play(method, setup, model, MIXED)
    expected = np.average([one[HEAD] for one in rows], axis=0, weights=[c.examples for c in MIXED])
    np.testing.assert_allclose(after.fleet.state.rows[HEAD], expected, atol=1e-6)


def test_weights_are_shares_and_equal_without_norms() -> None:
    zero = {module.name: np.zeros((1, module.width), np.float32) for module in LAYOUT.modules}
    one = {name: table + 1 for name, table in zero.items()}
    assert hetlora.sparsity_weights(LAYOUT, [zero, zero]) == [0.5, 0.5]
    assert hetlora.sparsity_weights(LAYOUT, [zero, one]) == [0.0, 1.0]


@given(st.integers(0, 2**32), st.integers(1, 4), st.floats(0.01, 2))
def test_penalty_gradient_is_that_of_the_tail_norm(seed: int, kept: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    rows = {m.name: rng.normal(size=(4, m.width)).astype(np.float32) for m in LAYOUT.modules}
    step = {name: rng.normal(size=table.shape) for name, table in rows.items()}
    for module in LAYOUT.modules:
        step[module.name][:, module.d_in] = 0
    zero = {name: np.zeros_like(table) for name, table in rows.items()}
    slope = hetlora.tail_penalty(LAYOUT, kept, penalty)(rows, zero)
    expected = sum(float(np.vdot(slope[name], step[name])) for name in rows)
    near = [
        hetlora.tail_norm(LAYOUT, {name: rows[name].astype(np.float64) + way * step[name] for name in rows}, kept)
        for way in (1e-5, -1e-5)
    ]
    np.testing.assert_allclose(expected, penalty * (near[0] - near[1]) / 2e-5, rtol=1e-3, atol=1e-3)


def test_penalty_at_zero_adds_nothing_and_leaves_its_input() -> None:
    rows = {m.name: np.zeros((4, m.width), np.float32) for m in LAYOUT.modules}
    gradients = {name: np.ones_like(table) for name, table in rows.items()}
    found = hetlora.tail_penalty(LAYOUT, 3, 0.1)(rows, gradients)
    assert all((found[name] == 1).all() for name in rows)
    part = {"0.query": gradients["0.query"]}
    assert hetlora.tail_penalty(LAYOUT, 3, 0.1)(rows, part).keys() == part.keys()


def with_tail(method: HetLora, client: Client, times: float) -> tuple[Setup, Model]:
    """A model whose last slots hold `times` what the client's training will add to them."""
    setup, model = in_training(method)
    upload, _ = train(setup, model, method.task(setup, model, client, 1), client)
    for module in LAYOUT.modules:
        change = upload.update.changes.rows()[module.name][3]
        table = model.fleet.state.rows[module.name]
        table[3, : module.d_in] = times * change[: module.d_in]
        table[3, module.d_in + 1 :] = times * change[module.d_in :]
    return setup, model


def test_a_tail_that_shrank_is_pruned_for_good() -> None:
    method, client = HetLora(decay=0.75), make_client(1)
    setup, model = with_tail(method, client, -0.9)
    after, _ = play(method, setup, model, [client])
    assert after.memory == {1: 3}
    assert method.task(setup, after, client, 2).trained.sum(axis=1).tolist() == [3, 3]
    for module in LAYOUT.modules:
        tail = after.fleet.state.rows[module.name][3]
        np.testing.assert_allclose(np.delete(tail, module.d_in), 0, atol=1e-6)


def test_a_tail_that_grew_stays() -> None:
    method, client = HetLora(decay=0.75), make_client(1)
    setup, model = with_tail(method, client, 0.5)
    after, _ = play(method, setup, model, [client])
    assert after.memory == {}
    assert method.task(setup, after, client, 2).trained.all()


def test_rank_one_is_never_pruned() -> None:
    method = HetLora(decay=0.5)
    setup, model = in_training(method)
    client = make_client(0, 0.25)
    after, _ = play(method, setup, model, [client])
    assert method.task(setup, after, client, 2).trained[:, 0].all()
