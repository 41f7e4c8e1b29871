from __future__ import annotations

import numpy as np
import pytest

from edge_agent.wire.ranks import Layout, Module
from profiling.experiments.method import Model
from profiling.experiments.methods.fedex_lora import FedExLora
from profiling.experiments.methods.fedlora import FedLora
from tests.profiling.experiments.methods.fleet import (
    LAYOUT,
    SCALE,
    make_client,
    make_setup,
    mean_product,
    play,
    product,
    with_learned,
)

CLIENTS = [make_client(number) for number in range(3)]
WIDE = Layout((Module("0.query", 0, 60, 50),), slots=2, classes=3, d_model=6)


def effective(module: Module, model: Model) -> np.ndarray:
    """What is added to the pretrained weights."""
    return model.base.get(module.name, 0) + SCALE * product(module, model.fleet.state.rows)


@pytest.mark.parametrize("layout", [LAYOUT, WIDE], ids=["dense", "factored"])
def test_effective_weight_is_mean_of_the_clients(layout: Layout) -> None:
    setup, method = make_setup(layout), FedExLora()
    model = with_learned(setup, method.start(setup))
    for _ in range(3):
        before = model.base
        model, rows = play(method, setup, model, CLIENTS)
        for module in layout.modules:
            expected = before.get(module.name, 0) + SCALE * mean_product(module, CLIENTS, rows)
            np.testing.assert_allclose(effective(module, model), expected, atol=1e-5)


def test_plain_averaging_is_not_exact() -> None:
    setup, method = make_setup(), FedLora()
    model, rows = play(method, setup, with_learned(setup, method.start(setup)), CLIENTS)
    module = LAYOUT.modules[0]
    assert np.abs(effective(module, model) - SCALE * mean_product(module, CLIENTS, rows)).max() > 1e-3


def test_factors_are_averaged_as_in_fedlora() -> None:
    setup = make_setup()
    start = with_learned(setup, FedLora().start(setup))
    ours, theirs = (play(method, setup, start, CLIENTS)[0] for method in (FedExLora(), FedLora()))
    assert ours.broadcast[:1] == theirs.broadcast
    assert ours.fleet.state.rows.keys() == theirs.fleet.state.rows.keys()


@pytest.mark.parametrize(("layout", "numbers"), [(WIDE, 2 * 2 * (60 + 50)), (LAYOUT, 12 * 10 + 9 * 14)])
def test_residual_travels_in_the_cheaper_form(layout: Layout, numbers: int) -> None:
    """Factors of rank (clients - 1) * slots where they are less than the matrix."""
    setup, method = make_setup(layout), FedExLora()
    model, _ = play(method, setup, with_learned(setup, method.start(setup)), CLIENTS)
    assert 0.8 * 4 * numbers < len(model.broadcast[1]) < 1.2 * 4 * numbers + 100


def test_one_client_leaves_no_residual() -> None:
    setup, method = make_setup(), FedExLora()
    model, _ = play(method, setup, with_learned(setup, method.start(setup)), CLIENTS[:1])
    assert len(model.broadcast) == 1
    assert not model.base


def test_ranks_of_few_clients_are_exact_over_those() -> None:
    setup, method = make_setup(WIDE), FedExLora()
    mixed = [make_client(0, 0.5), make_client(1), make_client(2)]
    start = with_learned(setup, method.start(setup))
    trained = [method.task(setup, start, client, 1).trained[0] for client in mixed]
    model, rows = play(method, setup, start, mixed)
    expected = np.zeros((50, 60))
    for slot in range(WIDE.slots):
        taking = [place for place in range(len(mixed)) if trained[place][slot]]
        one = [{"0.query": rows[place]["0.query"][slot : slot + 1]} for place in taking]
        expected += SCALE * mean_product(WIDE.modules[0], [mixed[place] for place in taking], one)
    np.testing.assert_allclose(effective(WIDE.modules[0], model), expected, atol=1e-5)


def test_quantised_residual_is_near() -> None:
    start = with_learned(make_setup(WIDE), FedExLora().start(make_setup(WIDE)))
    exact, coarse = (play(FedExLora(), make_setup(WIDE, scheme), start, CLIENTS)[0] for scheme in ("fp32", "int8"))
    assert len(coarse.broadcast[1]) < 0.4 * len(exact.broadcast[1])
    error = np.abs(coarse.base["0.query"] - exact.base["0.query"]).max()
    assert 0 < error < 0.05 * np.abs(exact.base["0.query"]).max()
