from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_agent.wire.ranks import HEAD
from profiling.experiments.method import Client
from profiling.experiments.methods.flexlora import FlexLora
from tests.profiling.experiments.methods.fleet import (
    LAYOUT,
    make_client,
    make_setup,
    mean_product,
    play,
    product,
    with_learned,
)

CLIENTS = [make_client(number) for number in range(3)]
MIXED = [make_client(0, 0.25), make_client(1, 1.0), make_client(2, 0.5)]


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, values, vt = np.linalg.svd(matrix)
    return (u[:, :rank] * values[:rank]) @ vt[:rank]


@pytest.mark.parametrize("clients", [CLIENTS, MIXED], ids=["uniform", "heterogeneous"])
def test_server_holds_best_approximation_of_mean_product(clients: list[Client]) -> None:
    setup, method = make_setup(), FlexLora()
    after, rows = play(method, setup, with_learned(setup, method.start(setup)), clients)
    for module in LAYOUT.modules:
        expected = best(mean_product(module, clients, rows), LAYOUT.slots)
        np.testing.assert_allclose(product(module, after.fleet.state.rows), expected, atol=1e-6)


@pytest.mark.parametrize(("share", "rank"), [(1.0, 4), (0.5, 2), (0.3, 1), (0.01, 1)])
def test_every_client_gets_best_approximation_of_its_rank(share: float, rank: int) -> None:
    setup, method = make_setup(), FlexLora()
    after, rows = play(method, setup, with_learned(setup, method.start(setup)), CLIENTS)
    task = method.task(setup, after, make_client(9, share), 2)
    assert task.state is not None
    assert (task.trained == task.state.mask).all()
    assert (task.trained.sum(axis=1) == rank).all()
    for index, module in enumerate(LAYOUT.modules):
        held = {module.name: after.fleet.state.rows[module.name][task.trained[index]]}
        expected = best(mean_product(module, CLIENTS, rows), rank)
        np.testing.assert_allclose(product(module, held), expected, atol=1e-6)


def test_what_no_client_has_is_left_to_learn() -> None:
    setup, method = make_setup(), FlexLora()
    weak = [make_client(0, 0.25)]
    after, rows = play(method, setup, method.start(setup), weak)
    for module in LAYOUT.modules:
        table = after.fleet.state.rows[module.name]
        assert np.linalg.norm(table[:, : module.d_in], axis=1).min() > 0.1
        assert not table[1:, module.d_in + 1 :].any()
        np.testing.assert_allclose(product(module, after.fleet.state.rows), mean_product(module, weak, rows), atol=1e-6)


def test_modules_below_the_depth_stay_out() -> None:
    alive = LAYOUT.full_mask()
    alive[0] = False
    setup, method = make_setup(alive=alive), FlexLora()
    after, _ = play(method, setup, method.start(setup), CLIENTS)
    assert not after.fleet.state.rows["0.query"].any()
    assert after.fleet.state.rows["1.output"].any()


def test_quantised_broadcast_is_what_the_server_holds() -> None:
    setup, method = make_setup(scheme="int8"), FlexLora()
    start = with_learned(setup, method.start(setup))
    exact, _ = play(method, make_setup(), start, CLIENTS)
    after, _ = play(method, setup, start, CLIENTS)
    assert len(after.broadcast[0]) < 0.6 * len(exact.broadcast[0])
    for module in LAYOUT.modules:
        close = product(module, exact.fleet.state.rows)
        assert np.abs(product(module, after.fleet.state.rows) - close).max() < 0.05 * np.abs(close).max()


def test_loss_of_a_turned_basis_is_not_sent_again_but_that_of_the_head_is() -> None:
    setup, method = make_setup(), FlexLora()
    start = with_learned(setup, method.start(setup))
    lost = {name: np.full_like(table, 0.5) for name, table in LAYOUT.empty_rows().items()}
    after, _ = play(method, setup, replace(start, fleet=replace(start.fleet, residual=lost)), CLIENTS)
    without, _ = play(method, setup, start, CLIENTS)
    for module in LAYOUT.modules:
        np.testing.assert_array_equal(after.fleet.state.rows[module.name], without.fleet.state.rows[module.name])
    np.testing.assert_allclose(after.fleet.state.rows[HEAD], without.fleet.state.rows[HEAD] + 0.5, atol=1e-6)


def test_same_uploads_give_same_bits() -> None:
    setup, method = make_setup(), FlexLora()
    start = with_learned(setup, method.start(setup))
    assert play(method, setup, start, MIXED)[0].broadcast == play(method, setup, start, MIXED)[0].broadcast
