from __future__ import annotations

import numpy as np

from edge_agent.wire.codec import decode_delta
from edge_agent.wire.ranks import HEAD
from profiling.experiments.methods.head import HeadAlone
from profiling.experiments.views import view_of
from tests.profiling.experiments.methods.fleet import LAYOUT, make_client, make_setup, play

CLIENTS = [make_client(number) for number in range(3)]


def test_no_rank_lives_trains_or_travels() -> None:
    setup, method = make_setup(), HeadAlone()
    after, _ = play(method, setup, method.start(setup), CLIENTS)
    assert not after.fleet.state.mask.any()
    assert not method.task(setup, after, CLIENTS[0], 2).trained.any()
    delta = decode_delta(after.broadcast[0], view_of(LAYOUT, method.parts(1)))
    assert not delta.changes.ranks.any()
    assert all(not after.fleet.state.rows[module.name].any() for module in LAYOUT.modules)


def test_head_is_the_mean_of_the_clients() -> None:
    setup, method = make_setup(), HeadAlone()
    after, rows = play(method, setup, method.start(setup), CLIENTS)
    examples = [client.examples for client in CLIENTS]
    expected = np.average([one[HEAD] for one in rows], axis=0, weights=examples)
    np.testing.assert_allclose(after.fleet.state.rows[HEAD], expected, atol=1e-6)
