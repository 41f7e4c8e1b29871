"""LoRA-A2: one side learns in a round, so averages are exact, and a client sends the ranks that changed most for it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.errors import ConfigError
from profiling.experiments.method import Model
from profiling.experiments.methods.lora_a2 import LoraA2, rank_budget
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup, client_state, close_to, effective, mean_of, weights_of

METHOD = LoraA2()


def after_rounds(count: int, seed: int = 0) -> Model:
    setup = a_setup(seed)
    model = METHOD.start(setup)
    for number in range(1, count + 1):
        model, _ = a_round(METHOD, setup, model, number)
    return model


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_only_one_side_changes_in_a_round(number: int) -> None:
    before, after = after_rounds(number - 1).fleet.state.rows, after_rounds(number).fleet.state.rows
    for module in LAYOUT.modules[1:]:
        changed = np.any(before[module.name] != after[module.name], axis=0)
        a, b = changed[: module.d_in], changed[module.d_in + 1 :]
        assert a.any() == (number % 2 == 0)
        assert b.any() == (number % 2 == 1)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_the_model_is_the_mean_of_the_clients_weights(seed: int, number: int) -> None:
    setup, before = a_setup(seed), after_rounds(number - 1, seed)
    after, uploads = a_round(METHOD, setup, before, number)
    parts = METHOD.parts(number)
    theirs = [weights_of(setup, before, client_state(before.fleet.state, one, parts)) for one in uploads]
    assert close_to(effective(setup, after), mean_of(theirs, [client.examples for client in CLIENTS]))


def test_an_upload_has_exactly_its_budget_of_ranks() -> None:
    setup = a_setup()
    _, uploads = a_round(METHOD, setup, METHOD.start(setup), 1)
    assert [int(one.update.changes.ranks.sum()) for one in uploads] == [4, 4, 2]
    assert [rank_budget(setup, client) for client in CLIENTS] == [4, 4, 2]


def test_a_client_sends_the_ranks_whose_products_changed_most() -> None:
    setup = a_setup()
    before = METHOD.start(setup)
    task = METHOD.task(setup, before, CLIENTS[0], 1)
    assert np.array_equal(task.trained, setup.alive)
    _, uploads = a_round(METHOD, setup, before, 1)
    scores = uploads[0].update.scores
    changes = uploads[0].update.changes.rows()
    found = {}
    for index, (module, slots) in enumerate(LAYOUT.living(uploads[0].update.changes.ranks)):
        a = before.fleet.state.rows[module.name][slots, : module.d_in]
        norms = np.linalg.norm(changes[module.name], axis=1) * np.linalg.norm(a, axis=1)
        found.update({(index, int(slot)): norm for slot, norm in zip(slots, norms, strict=True)})
    best = max(found.values())
    assert all(np.isclose(scores[place], norm / best, atol=1e-3) for place, norm in found.items())


def test_the_budget_is_a_number() -> None:
    setup = a_setup()
    ranks = msgspec.structs.replace(setup.options.ranks, target="auto")
    with pytest.raises(ConfigError, match="must be a number"):
        rank_budget(replace(setup, options=msgspec.structs.replace(setup.options, ranks=ranks)), CLIENTS[0])


def test_what_nobody_chose_stays_as_it_was() -> None:
    setup = a_setup()
    before = METHOD.start(setup)
    after, uploads = a_round(METHOD, setup, before, 1, CLIENTS[2:])
    for module, slots in LAYOUT.living(~uploads[0].update.changes.ranks):
        assert np.array_equal(after.fleet.state.rows[module.name][slots], before.fleet.state.rows[module.name][slots])
