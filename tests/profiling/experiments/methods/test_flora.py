"""FLoRA: what is folded into the frozen weights is exactly the weighted mean of the clients' products."""

from __future__ import annotations

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire import rowset
from edge_agent.wire.container import Kind, Reader, unseal
from edge_agent.wire.ranks import HEAD
from profiling.experiments.method import Parts
from profiling.experiments.methods.flora import Flora
from profiling.experiments.views import view_of
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup, client_state, close_to, effective, mean_of, weights_of

PARTS = Parts(e=False)
LIMIT_BYTES = 100_000


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(("fp32", "int8")))
def test_the_fold_is_the_weighted_mean_of_the_clients_weights(seed: int, quantisation: str) -> None:
    setup = a_setup(seed, quantisation="int8" if quantisation == "int8" else "fp32")
    model = Flora().start(setup)
    for number in (1, 2):
        before = model
        model, uploads = a_round(Flora(), setup, before, number)
        theirs = [weights_of(setup, before, client_state(before.fleet.state, one, PARTS)) for one in uploads]
        assert close_to(effective(setup, model), mean_of(theirs, [client.examples for client in CLIENTS]))


def test_adapters_start_anew_in_every_round() -> None:
    setup = a_setup()
    first = Flora().start(setup)
    second, _ = a_round(Flora(), setup, first, 1)
    for module in LAYOUT.modules[1:]:
        before, after = (model.fleet.state.rows[module.name] for model in (first, second))
        assert not after[:, module.d_in + 1 :].any()
        assert not np.array_equal(before[:, : module.d_in], after[:, : module.d_in])


def test_the_broadcast_holds_what_the_clients_sent_and_the_head_once() -> None:
    setup = a_setup()
    model, uploads = a_round(Flora(), setup, Flora().start(setup), 1)
    stacked, _ = model.broadcast
    reader = Reader(unseal(Kind.DELTA, stacked, LIMIT_BYTES))
    for upload in uploads:
        (examples,) = struct.unpack("<Q", reader.take_bytes(8))
        rows = rowset.read(reader, view_of(LAYOUT, PARTS)).rows()
        assert examples == upload.update.examples
        assert len(rows.pop(HEAD)) == 0
        assert all(np.array_equal(table, upload.update.changes.rows()[name]) for name, table in rows.items())
    reader.finish()


def test_the_head_is_averaged() -> None:
    setup = a_setup()
    before = Flora().start(setup)
    after, uploads = a_round(Flora(), setup, before, 1)
    theirs = [{HEAD: client_state(before.fleet.state, one, PARTS)[HEAD]} for one in uploads]
    heads = mean_of(theirs, [client.examples for client in CLIENTS])
    assert close_to({HEAD: after.fleet.state.rows[HEAD]}, heads)


def test_a_smaller_device_has_a_smaller_rank_in_every_module() -> None:
    setup = a_setup()
    task = Flora().task(setup, Flora().start(setup), CLIENTS[2], 1)
    assert task.trained.sum(axis=1).tolist() == [0, 2, 2]
    assert task.state is not None and np.array_equal(task.state.mask, task.trained)
