from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.container import Kind, seal, unseal
from edge_agent.wire.errors import PayloadError, WireError
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows
from edge_agent.wire.state import (
    ModelState,
    digest,
    from_bytes,
    layout_digest,
    seed_state,
    to_bytes,
)

LAYOUT = Layout((Module("block.0.query", 0, 6, 4), Module("block.1.ffn", 1, 4, 8)), slots=3, classes=2, d_model=4)
GOLDEN_LAYOUT = "3b3715c72eba9a153c6e8bb747fda4fa"
GOLDEN_SEED_11 = "af3114242b3a560ce1007c9707e8b655938637c56691ef912db26b78dff5e1d4"


def _pruned(state: ModelState) -> ModelState:
    mask = state.mask.copy()
    mask[0, 1] = mask[1, 2] = False
    rows = {name: table.copy() for name, table in state.rows.items()}
    for module, kept in zip(LAYOUT.modules, mask, strict=True):
        rows[module.name][~kept] = 0
    return dataclasses.replace(state, version=7, mask=mask, rows=rows)


def _same(one: Rows, other: Rows) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def test_the_seed_state_is_the_golden_one() -> None:
    assert layout_digest(LAYOUT).hex() == GOLDEN_LAYOUT
    assert digest(seed_state(LAYOUT, 11)).hex() == GOLDEN_SEED_11


def test_the_seed_state_adapts_nothing() -> None:
    state = seed_state(LAYOUT, 3)
    for module in LAYOUT.modules:
        assert not state.rows[module.name][:, module.d_in].any()
    assert not state.rows[HEAD][:, -1].any()
    assert state.rows[HEAD][:, :-1].all()
    assert state.version == 0 and state.mask.all()


def test_factors_start_with_the_spread_of_their_width() -> None:
    layout = Layout((Module("m", 0, 400, 900),), slots=20, classes=2, d_model=400)
    rows = seed_state(layout, 5).rows["m"]
    assert abs(rows[:, :400].std() * 20 - 1) < 0.05
    assert abs(rows[:, 401:].std() * 30 - 1) < 0.05


@given(st.integers(0, 2**40))
def test_snapshots_round_trip(seed: int) -> None:
    state = _pruned(seed_state(LAYOUT, seed))
    back = from_bytes(to_bytes(state), LAYOUT)
    assert (back.version, back.mask.tolist()) == (state.version, state.mask.tolist())
    assert _same(back.rows, state.rows)
    assert digest(back) == digest(state)


def test_the_digest_sees_version_mask_rows_and_head_but_no_pruned_row() -> None:
    state = _pruned(seed_state(LAYOUT, 1))
    known = {digest(state), digest(dataclasses.replace(state, version=8)), digest(seed_state(LAYOUT, 1))}
    for name, row in (("block.0.query", 0), ("block.1.ffn", 1), (HEAD, 1)):
        rows = {key: table.copy() for key, table in state.rows.items()}
        rows[name][row, 0] += 1
        known.add(digest(dataclasses.replace(state, rows=rows)))
    assert len(known) == 6
    state.rows["block.0.query"][1] = 9
    assert digest(state) in known


def test_a_snapshot_of_another_layout_is_refused() -> None:
    other = dataclasses.replace(LAYOUT, classes=3)
    with pytest.raises(PayloadError, match="layout"):
        from_bytes(to_bytes(seed_state(LAYOUT, 1)), other)


def test_values_that_are_not_finite_are_refused() -> None:
    state = seed_state(LAYOUT, 1)
    state.rows[HEAD][0, 0] = np.nan
    with pytest.raises(PayloadError, match="not finite"):
        from_bytes(to_bytes(state), LAYOUT)


@given(st.binary(max_size=300))
def test_random_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        from_bytes(seal(Kind.SNAPSHOT, body), LAYOUT)


def test_stray_bytes_are_refused() -> None:
    body = unseal(Kind.SNAPSHOT, to_bytes(_pruned(seed_state(LAYOUT, 1))), 10_000)
    with pytest.raises(PayloadError, match="stray"):
        from_bytes(seal(Kind.SNAPSHOT, body + b"\0"), LAYOUT)
