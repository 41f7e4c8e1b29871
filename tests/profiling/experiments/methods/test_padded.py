"""Averages over all clients of a round, whether or not they trained a rank."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.codec import apply_delta, decode_delta
from edge_agent.wire.ranks import HEAD
from edge_agent.wire.state import digest
from profiling.experiments.method import ALL, Task
from profiling.experiments.methods.averaging import LoraStart
from profiling.experiments.methods.padded import moved, padded_mean
from tests.peers import CLIENTS, LAYOUT, a_setup, an_upload, client_state, close_to, mean_of


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_every_row_is_the_mean_over_all_clients(seed: int) -> None:
    setup = a_setup(seed)
    model = LoraStart().start(setup)
    draws = np.random.default_rng(seed)
    tasks = [Task(setup.alive & (draws.random(setup.alive.shape) < 0.5)) for _ in CLIENTS]
    uploads = [an_upload(setup, model, client, task, 1) for client, task in zip(CLIENTS, tasks, strict=True)]
    after = moved(setup, model, padded_mean(model.fleet, uploads), ALL)
    theirs = [client_state(model.fleet.state, one, ALL) for one in uploads]
    assert close_to(after.fleet.state.rows, mean_of(theirs, [client.examples for client in CLIENTS]))


def test_the_share_is_that_of_the_examples_behind_a_rank() -> None:
    setup = a_setup()
    model = LoraStart().start(setup)
    one = np.zeros_like(setup.alive)
    one[1, 2] = True
    uploads = [
        an_upload(setup, model, CLIENTS[0], Task(one), 1),
        an_upload(setup, model, CLIENTS[1], Task(one & False), 1),
    ]
    share = padded_mean(model.fleet, uploads).share
    assert share[1, 2] == 30 / 40
    assert share.sum() == share[1, 2]


def test_a_device_gets_to_the_same_model_by_the_broadcast() -> None:
    setup = a_setup(quantisation="int8")
    model = LoraStart().start(setup)
    uploads = [an_upload(setup, model, client, Task(setup.alive), 1) for client in CLIENTS]
    after = moved(setup, model, padded_mean(model.fleet, uploads), ALL)
    (delta,) = after.broadcast
    assert digest(apply_delta(model.fleet.state, decode_delta(delta, LAYOUT))) == digest(after.fleet.state)
    assert after.fleet.state.rows[HEAD].any()
