from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.selection import pick, trained_positions
from edge_agent.wire.ranks import HEAD, Layout, Module, compact
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=5, classes=2, d_model=4)


@given(st.lists(st.integers(0, 2), min_size=10, max_size=10))
def test_picking_from_the_living_is_compacting_to_the_trained(kinds: list[int]) -> None:
    kind = np.array(kinds).reshape(2, 5)
    living, trained = kind > 0, kind > 1
    rows = seed_state(LAYOUT, 1).rows
    picked = pick(compact(LAYOUT, rows, living), trained_positions(LAYOUT, living, trained))
    for name, expected in compact(LAYOUT, rows, trained).items():
        assert np.array_equal(picked.get(name, expected[:0]), expected)


def test_modules_that_train_nothing_are_absent() -> None:
    living = LAYOUT.full_mask()
    trained = living.copy()
    trained[0] = False
    positions = trained_positions(LAYOUT, living, trained)
    assert positions.keys() == {"high"}
    assert pick(seed_state(LAYOUT, 1).rows, positions).keys() == {"high", HEAD}
