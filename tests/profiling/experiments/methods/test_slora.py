"""SLoRA: only the sparse part changes at first; its decomposition starts low-rank adaptation without changing it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from profiling.experiments.method import Model, Parts
from profiling.experiments.methods.factors import Factors
from profiling.experiments.methods.slora import SLora, balanced
from tests.peers import (
    CLIENTS,
    LAYOUT,
    a_round,
    a_setup,
    a_weight,
    client_state,
    close_to,
    effective,
    mean_of,
    weights_of,
)

SETUP = a_setup()
METHOD = SLora(sparse_rounds=2)


def after_rounds(count: int) -> Model:
    model = METHOD.start(SETUP)
    for number in range(1, count + 1):
        model, _ = a_round(METHOD, SETUP, model, number)
    return model


def test_training_starts_at_the_pretrained_weights() -> None:
    assert close_to(effective(SETUP, METHOD.start(SETUP)), {name: a_weight(name) for name in ("wide", "tall")})


def test_stage_1_changes_as_many_inputs_of_a_module_as_there_are_ranks() -> None:
    weights = effective(SETUP, after_rounds(1))
    for name, weight in weights.items():
        changed = np.any(weight != a_weight(name), axis=0)
        assert changed.sum() == LAYOUT.slots


def test_stage_1_sends_nothing_but_the_changed_weights() -> None:
    assert METHOD.task(SETUP, METHOD.start(SETUP), CLIENTS[0], 2).parts == Parts(a=False, e=False)
    assert METHOD.task(SETUP, METHOD.start(SETUP), CLIENTS[0], 3).parts == Parts(e=False)


def test_the_decomposition_leaves_the_mean_of_the_clients_weights_as_it_is() -> None:
    before = after_rounds(1)
    after, uploads = a_round(METHOD, SETUP, before, 2)
    rows = [client_state(before.fleet.state, one, Parts(a=False, e=False)) for one in uploads[:2]]
    full = mean_of([weights_of(SETUP, before, one) for one in rows], [client.examples for client in CLIENTS[:2]])
    alone, _ = a_round(METHOD, SETUP, before, 2, CLIENTS[:2])
    assert close_to(effective(SETUP, alone), full)
    assert METHOD.parts(2) == Parts(e=False)
    assert after.fleet.state.version == before.fleet.state.version + 1


def test_both_factors_of_a_rank_have_the_same_length_in_stage_2() -> None:
    state = after_rounds(2).fleet.state
    for module in LAYOUT.modules[1:]:
        table = state.rows[module.name]
        a, b = table[:, : module.d_in], table[:, module.d_in + 1 :]
        assert np.allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1), atol=1e-5)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(0, 4))
def test_balancing_keeps_the_matrix_and_no_rank_dies(seed: int, rank: int, empty: int) -> None:
    draws = np.random.default_rng(seed)
    factors = Factors(draws.standard_normal((rank, 6)), draws.standard_normal((rank, 5)))
    factors.b[:empty] = 0
    even = balanced(factors)
    assert np.allclose(even.matrix, factors.matrix)
    assert (np.linalg.norm(even.a, axis=1) > 0).all()
