"""The laws of what was tried: a proximal gradient, momentum, a head that stays."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet_model
from edge_agent.wire.ranks import HEAD, Rows, compact
from profiling.experiments.method import Setup, Task
from profiling.experiments.methods.trials import on_trial, proximal, with_momentum
from tests.peers import LAYOUT, a_setup

seeds = st.integers(0, 1000)
QUICK = settings(deadline=None, max_examples=20)


def some_rows(seed: int) -> Rows:
    draws = np.random.default_rng(seed)
    return {name: draws.normal(size=(one.rows, one.width)).astype(np.float32) for name, one in LAYOUT.tables.items()}


def on_a_trial(**trial: object) -> Setup:
    setup = a_setup()
    changed = msgspec.structs.replace(setup.options.trial, **trial)
    return replace(setup, options=msgspec.structs.replace(setup.options, trial=changed))


@QUICK
@given(seeds, st.floats(0.01, 10))
def test_the_proximal_gradient_is_that_of_half_the_squared_distance(seed: int, strength: float) -> None:
    start, rows, gradients = (some_rows(seed + place) for place in range(3))
    pulled = proximal(start, strength)(rows, gradients)
    for module in LAYOUT.modules:
        name = module.name
        added = pulled[name].astype(np.float64) - gradients[name]
        np.testing.assert_allclose(added, strength * (rows[name] - start[name]), atol=1e-5 * (1 + strength))


@QUICK
@given(seeds)
def test_where_a_round_begins_nothing_pulls(seed: int) -> None:
    start, gradients = some_rows(seed), some_rows(seed + 1)
    pulled = proximal(start, 3.0)(start, gradients)
    assert all(np.array_equal(pulled[name], gradients[name]) for name in gradients)


def test_the_head_goes_free() -> None:
    start, rows, gradients = (some_rows(place) for place in range(3))
    assert proximal(start, 3.0)(rows, gradients)[HEAD] is gradients[HEAD]


def test_tables_that_do_not_learn_get_no_gradient() -> None:
    start, rows, gradients = (some_rows(place) for place in range(3))
    del gradients["low"]
    assert proximal(start, 3.0)(rows, gradients).keys() == gradients.keys()


def test_a_task_pulls_to_the_living_rows_that_its_client_starts_from() -> None:
    setup = on_a_trial(proximal=2.0)
    state = replace(fleet_model.start(LAYOUT, 0).state, mask=setup.alive)
    adjust = on_trial(setup, state, Task(setup.alive)).adjust
    assert adjust is not None
    living = compact(LAYOUT, state.rows, state.mask)
    nothing = {name: np.zeros_like(table) for name, table in living.items()}
    assert all(not table.any() for table in adjust(living, nothing).values())


def test_without_trials_the_task_is_as_it_was() -> None:
    setup, task = a_setup(), Task(a_setup().alive)
    assert on_trial(setup, fleet_model.start(LAYOUT, 0).state, task) == task


@pytest.mark.parametrize("head", [True, False])
def test_a_frozen_head_does_not_learn(head: bool) -> None:
    setup = on_a_trial(freeze_head=True)
    assert not on_trial(setup, fleet_model.start(LAYOUT, 0).state, Task(setup.alive, head=head)).head


def test_momentum_0_is_the_identity() -> None:
    model = fleet_model.start(LAYOUT, 0)
    assert with_momentum(model, replace(model.state, rows=some_rows(1)), 0.0) is model
    assert with_momentum(model, None, 0.9) is model


@QUICK
@given(seeds, st.floats(0.1, 1))
def test_momentum_puts_a_share_of_the_last_change_into_the_residual(seed: int, share: float) -> None:
    start = fleet_model.start(LAYOUT, seed)
    before, now = (replace(start.state, rows=some_rows(seed + place)) for place in range(2))
    model = replace(start, state=now, residual=some_rows(seed + 2))
    pushed = with_momentum(model, before, share)
    assert pushed.state is now
    for name, table in pushed.residual.items():
        expected = model.residual[name] + share * (now.rows[name] - before.rows[name])
        np.testing.assert_allclose(table, expected, atol=1e-5)


def test_momentum_revives_no_pruned_rank() -> None:
    start = fleet_model.start(LAYOUT, 0)
    mask = np.arange(LAYOUT.ranks).reshape(start.state.mask.shape) % 2 == 0
    now = replace(start.state, mask=mask, rows=some_rows(1))
    pushed = with_momentum(replace(start, state=now), replace(start.state, rows=some_rows(2)), 0.5)
    for module, pruned in LAYOUT.living(~mask):
        assert not pushed.residual[module.name][pruned].any()
