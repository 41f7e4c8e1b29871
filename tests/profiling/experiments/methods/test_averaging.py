"""Averaging: every row is the weighted mean over those who trained it, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from coordinator.rank_plan import RankPlan
from edge_agent.wire.codec import decode_delta
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Rows
from profiling.experiments.drift import products
from profiling.experiments.methods.averaging import Averaging, planned, within_share, without_pruning
from profiling.experiments.methods.fedara import FedAra
from profiling.experiments.views import view_of
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup, client_state

METHOD = Averaging()
EQUAL = CLIENTS[:2]


def weighted_mean(rows: list[Rows], weights: list[int]) -> Rows:
    return {name: np.average([one[name] for one in rows], axis=0, weights=weights) for name in rows[0]}


def test_adapters_start_at_the_pretrained_model() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    assert all(not np.any(product) for product in products(LAYOUT, model.fleet.state.rows).values())
    for module, slots in LAYOUT.living(setup.alive):
        table = model.fleet.state.rows[module.name][slots]
        assert table[:, : module.d_in].any(axis=1).all() and (table[:, module.d_in] == 1).all()


def test_ranks_that_do_not_live_are_zero() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    assert np.array_equal(model.fleet.state.mask, setup.alive)
    for module, dead in LAYOUT.living(~setup.alive):
        assert not model.fleet.state.rows[module.name][dead].any()


def test_rows_are_the_mean_over_the_clients_weighted_by_examples() -> None:
    setup = a_setup()
    start = METHOD.start(setup)
    after, uploads = a_round(METHOD, setup, start, 1, EQUAL)
    rows = [client_state(start.fleet.state, upload, METHOD.parts(1)) for upload in uploads]
    expected = weighted_mean(rows, [client.examples for client in EQUAL])
    for name, table in after.fleet.state.rows.items():
        np.testing.assert_allclose(table, expected[name], atol=1e-6)


def test_parts_that_do_not_learn_stay_as_they_are() -> None:
    setup = a_setup()
    start = METHOD.start(setup)
    after, _ = a_round(METHOD, setup, start, 1)
    for module in LAYOUT.modules:
        column = np.s_[:, module.d_in]
        assert np.array_equal(after.fleet.state.rows[module.name][column], start.fleet.state.rows[module.name][column])


def test_nothing_is_pruned() -> None:
    setup = a_setup()
    model = METHOD.start(setup)
    assert METHOD.budget_ranks(setup, model, 1) is None
    for number in (1, 2, 3):
        model, _ = a_round(METHOD, setup, model, number)
    assert np.array_equal(model.fleet.state.mask, setup.alive)


def test_the_broadcast_carries_the_parts_that_learn_and_no_other() -> None:
    setup = a_setup()
    after, _ = a_round(METHOD, setup, METHOD.start(setup), 1)
    view = view_of(LAYOUT, METHOD.parts(1))
    (body,) = after.broadcast
    for name, table in decode_delta(body, view).changes.rows().items():
        assert table.shape[1] == view.tables[name].width


def test_a_client_trains_its_share_of_the_living_ranks_and_at_least_one() -> None:
    setup = a_setup()
    model, living = METHOD.start(setup), int(setup.alive.sum())
    for share in (0.0, 0.3, 0.5, 1.0):
        mask = within_share(model.fleet, CLIENTS[0]._replace(rank_share=share))
        assert mask.sum() == max(1, int(share * living))
        assert not (mask & ~setup.alive).any()


def test_a_client_with_less_room_trains_the_most_important_ranks() -> None:
    setup = a_setup()
    model, _ = a_round(METHOD, setup, METHOD.start(setup), 1)
    mask = within_share(model.fleet, CLIENTS[0]._replace(rank_share=0.5))
    others = model.fleet.state.mask & ~mask
    assert model.fleet.importance[mask].min() >= model.fleet.importance[others].max()


def test_momentum_adds_a_share_of_the_last_change_to_the_next() -> None:
    setup = a_setup()
    trial = msgspec.structs.replace(setup.options.trial, momentum=0.5)
    pushed = replace(setup, options=msgspec.structs.replace(setup.options, trial=trial))
    start = METHOD.start(setup)
    first, _ = a_round(METHOD, pushed, start, 1)
    assert first.broadcast == a_round(METHOD, setup, start, 1)[0].broadcast, "there was no change before the first"
    with_push, without = (a_round(METHOD, one, first, 2)[0].fleet.state.rows for one in (pushed, setup))
    before, then = start.fleet.state.rows, first.fleet.state.rows
    np.testing.assert_allclose(with_push[HEAD], without[HEAD] + 0.5 * (then[HEAD] - before[HEAD]), atol=1e-5)


def test_a_method_that_prunes_closes_as_the_product_would() -> None:
    setup = a_setup()
    model, scheme = FedAra().start(setup), find_scheme(setup.options.training.quantisation)
    plan = RankPlan(setup.options.ranks, setup.profile.rounds, setup.alive)
    rounds = range(1, setup.profile.rounds + 1)
    assert [planned(setup, model, n) for n in rounds] == [plan.rules(model.fleet, n, scheme) for n in rounds]


def test_a_method_that_does_not_prune_keeps_all() -> None:
    setup = a_setup()
    assert without_pruning(setup, METHOD.start(setup)).budget_ranks == setup.alive.sum()
