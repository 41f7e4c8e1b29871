from __future__ import annotations

import numpy as np
import pytest

from edge_agent.wire.codec import decode_delta
from edge_agent.wire.ranks import HEAD
from profiling.experiments.method import Parts
from profiling.experiments.methods.ffa_lora import FfaLora
from profiling.experiments.views import view_of
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


def test_mean_of_products_is_product_of_means() -> None:
    setup, method = make_setup(), FfaLora()
    after, rows = play(method, setup, with_learned(setup, method.start(setup)), CLIENTS)
    for module in LAYOUT.modules:
        expected = mean_product(module, CLIENTS, rows)
        np.testing.assert_allclose(product(module, after.fleet.state.rows), expected, atol=1e-6)


@pytest.mark.parametrize("scheme", ["fp32", "int8"])
def test_a_stays_as_the_seed_made_it(scheme: str) -> None:
    setup, method = make_setup(scheme=scheme), FfaLora()
    start = method.start(setup)
    after, _ = play(method, setup, start, CLIENTS)
    for module in LAYOUT.modules:
        rows, first = after.fleet.state.rows[module.name], start.fleet.state.rows[module.name]
        np.testing.assert_array_equal(rows[:, : module.d_in + 1], first[:, : module.d_in + 1])
        assert rows[:, module.d_in + 1 :].any()
    assert (after.fleet.state.rows[HEAD] != start.fleet.state.rows[HEAD]).any()


def test_only_b_travels() -> None:
    setup, method = make_setup(), FfaLora()
    after, _ = play(method, setup, method.start(setup), CLIENTS)
    assert method.task(setup, after, CLIENTS[0], 2).parts == method.parts(2) == Parts(False, False, True)
    sent = decode_delta(after.broadcast[0], view_of(LAYOUT, method.parts(1))).changes.rows()
    assert {name: table.shape[1] for name, table in sent.items()} == {"0.query": 10, "1.output": 14, HEAD: 7}
