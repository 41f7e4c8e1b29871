"""FedARA as published, by the product's own code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coordinator import fleet_model
from edge_agent.wire.codec import apply_delta, decode_delta
from edge_agent.wire.state import digest
from profiling.experiments.drift import products
from profiling.experiments.method import ALL, mean_loss
from profiling.experiments.methods.averaging import planned
from profiling.experiments.methods.fedara import FedAra
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup

METHOD = FedAra()


def test_the_start_is_the_products_and_equals_the_pretrained_model() -> None:
    setup = a_setup()
    state, own = METHOD.start(setup).fleet.state, fleet_model.start(LAYOUT, setup.seed).state
    for module, slots in LAYOUT.living(setup.alive):
        assert np.array_equal(state.rows[module.name][slots], own.rows[module.name][slots])
        assert not state.rows[module.name][slots, module.d_in].any()
    assert all(not product.any() for product in products(LAYOUT, state.rows).values())


def test_ranks_shrink_to_the_schedules_budget_and_never_grow() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    for number in range(1, setup.profile.rounds + 1):
        due, before = planned(setup, model, number).budget_ranks, model.fleet.state.mask
        assert METHOD.budget_ranks(setup, model, number) == due
        model, _ = a_round(METHOD, setup, model, number)
        assert model.fleet.state.mask.sum() == due
        assert not (model.fleet.state.mask & ~before).any()
    modules = int(setup.alive.any(axis=1).sum())
    assert model.fleet.state.mask.sum() == setup.options.ranks.target * modules


def test_a_round_closes_exactly_as_the_coordinator_closes_it() -> None:
    setup = a_setup(quantisation="int8")
    before, _ = a_round(METHOD, setup, METHOD.start(setup), 1)
    after, uploads = a_round(METHOD, setup, before, 2)
    terms = planned(setup, before, 2)
    closing = fleet_model.close_round(before.fleet, [one.update for one in uploads], mean_loss(uploads), terms)
    assert after.broadcast == (closing.delta,)
    assert digest(after.fleet.state) == digest(closing.model.state)
    assert digest(apply_delta(before.fleet.state, decode_delta(closing.delta, LAYOUT))) == digest(after.fleet.state)


def test_all_parts_travel() -> None:
    assert METHOD.parts(1) == ALL


def test_a_client_trains_living_ranks_only() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    mask = model.fleet.state.mask.copy()
    mask[:, 0] = False
    model = replace(model, fleet=replace(model.fleet, state=replace(model.fleet.state, mask=mask)))
    for client in CLIENTS:
        assert not (METHOD.task(setup, model, client, 1).trained & ~mask).any()
