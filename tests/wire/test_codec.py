from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.codec import (
    MAX_EXAMPLES,
    Delta,
    Update,
    apply_delta,
    decode_delta,
    decode_update,
    encode_delta,
    encode_update,
    update_limit_bytes,
)
from edge_agent.wire.container import Kind, seal, unseal
from edge_agent.wire.errors import PayloadError, WireError
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Mask, Module
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import RowSet, quantise_rows
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("block.0.query", 0, 6, 4), Module("block.1.ffn", 1, 4, 8)), slots=3, classes=2, d_model=4)
GOLDEN = Path(__file__).parents[1] / "golden"
LIMIT = 10_000
TRAINED = np.array([[True, False, True], [False, True, True]])
NAMES = st.sampled_from(sorted(SCHEMES))


def _changes(name: str, ranks: Mask, seed: int = 1) -> RowSet:
    draws = generator(seed, "codec")
    change = {m.name: draws.gaussian((len(slots), m.width), 0.01) for m, slots in LAYOUT.living(ranks)}
    change[HEAD] = draws.gaussian((2, 5), 0.01)
    return quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEMES[name])[0]


def _update(name: str = "int8", seed: int = 1) -> Update:
    scores = np.where(TRAINED, np.arange(6).reshape(2, 3) / 5, 0).astype(np.float16).astype(np.float32)
    votes = TRAINED & (scores > 0.5)
    return Update(3, 2, 640, votes, scores, _changes(name, TRAINED, seed))


def _delta(name: str = "int8", seed: int = 1) -> Delta:
    mask = TRAINED.copy()
    mask[0, 1] = True
    return Delta(0, 1, mask, _changes(name, TRAINED, seed))


@given(NAMES, st.integers(0, 99))
def test_updates_round_trip(name: str, seed: int) -> None:
    update = _update(name, seed)
    back = decode_update(encode_update(update, LAYOUT), LAYOUT, limit_bytes=LIMIT, allowed=TRAINED)
    assert (back.round, back.version, back.examples) == (3, 2, 640)
    assert np.array_equal(back.votes, update.votes) and np.array_equal(back.scores, update.scores)
    assert back.changes.scheme.name == name
    for key, values in update.changes.rows().items():
        assert np.array_equal(back.changes.rows()[key], values)


@given(NAMES, st.integers(0, 99))
def test_deltas_round_trip(name: str, seed: int) -> None:
    delta = _delta(name, seed)
    back = decode_delta(encode_delta(delta, LAYOUT), LAYOUT)
    assert (back.version_from, back.version_to, back.mask.tolist()) == (0, 1, delta.mask.tolist())
    for key, values in delta.changes.rows().items():
        assert np.array_equal(back.changes.rows()[key], values)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_golden_objects_are_what_we_write_and_read(name: str) -> None:
    # The bodies are compared: builds of zlib may compress the same body to other bytes.
    golden = (GOLDEN / f"update-{name}.bin").read_bytes()
    ours = encode_update(_update(name), LAYOUT)
    assert unseal(Kind.UPDATE, golden, LIMIT) == unseal(Kind.UPDATE, ours, LIMIT)
    assert decode_update(golden, LAYOUT, limit_bytes=LIMIT).examples == 640
    golden = (GOLDEN / f"delta-{name}.bin").read_bytes()
    ours = encode_delta(_delta(name), LAYOUT)
    assert unseal(Kind.DELTA, golden, LIMIT) == unseal(Kind.DELTA, ours, LIMIT)
    assert decode_delta(golden, LAYOUT).version_to == 1


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_the_receiver_of_a_delta_holds_the_sender_s_state(name: str) -> None:
    state, delta = seed_state(LAYOUT, 4), _delta(name)
    sender = apply_delta(state, delta)
    receiver = apply_delta(state, decode_delta(encode_delta(delta, LAYOUT), LAYOUT))
    assert receiver.version == 1
    for table, rows in sender.rows.items():
        assert rows.tobytes() == receiver.rows[table].tobytes()
    change = delta.changes.rows()["block.1.ffn"][0]
    assert np.array_equal(sender.rows["block.1.ffn"][1], state.rows["block.1.ffn"][1] + change)


def test_rows_not_in_a_delta_stay_and_pruned_rows_become_zero() -> None:
    state = seed_state(LAYOUT, 4)
    after = apply_delta(state, _delta())
    assert np.array_equal(after.rows["block.0.query"][1], state.rows["block.0.query"][1])
    assert not after.rows["block.1.ffn"][0].any()
    assert state.rows["block.1.ffn"][0].any()


def test_a_delta_fits_one_version_and_revives_nothing() -> None:
    state, delta = seed_state(LAYOUT, 4), _delta()
    with pytest.raises(PayloadError, match="from version 0"):
        apply_delta(dataclasses.replace(state, version=1), delta)
    with pytest.raises(PayloadError, match="revives"):
        apply_delta(dataclasses.replace(state, mask=TRAINED), delta)


@given(st.binary(max_size=300))
def test_random_bodies_are_read_or_refused(body: bytes) -> None:
    for kind, decode in _DECODERS.items():
        try:
            decode(seal(kind, body))
        except WireError:
            continue


@given(NAMES, st.data())
def test_mutated_bodies_are_read_or_refused(name: str, data: st.DataObject) -> None:
    sealed = {
        Kind.UPDATE: encode_update(_update(name), LAYOUT),
        Kind.DELTA: encode_delta(_delta(name), LAYOUT),
    }
    for kind, whole in sealed.items():
        body = bytearray(unseal(kind, whole, LIMIT))
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        try:
            _DECODERS[kind](seal(kind, bytes(body)))
        except WireError:
            continue


@given(NAMES)
def test_no_update_is_larger_than_its_limit(name: str) -> None:
    body = unseal(Kind.UPDATE, encode_update(_update(name), LAYOUT), LIMIT)
    assert len(body) <= update_limit_bytes(LAYOUT)


def test_rows_of_ranks_that_were_not_planned_are_refused() -> None:
    allowed = TRAINED.copy()
    allowed[1, 2] = False
    with pytest.raises(PayloadError, match="not told to train"):
        decode_update(encode_update(_update(), LAYOUT), LAYOUT, limit_bytes=LIMIT, allowed=allowed)


def test_oversized_foreign_and_stray_objects_are_refused() -> None:
    data = encode_update(_update(), LAYOUT)
    with pytest.raises(PayloadError, match="at most 10 bytes"):
        decode_update(data, LAYOUT, limit_bytes=10)
    with pytest.raises(PayloadError, match="layout"):
        decode_update(data, dataclasses.replace(LAYOUT, classes=3), limit_bytes=LIMIT)
    body = unseal(Kind.UPDATE, data, LIMIT)
    with pytest.raises(PayloadError, match="stray"):
        decode_update(seal(Kind.UPDATE, body + b"\0"), LAYOUT, limit_bytes=LIMIT)
    with pytest.raises(PayloadError, match="expected"):
        decode_update(seal(Kind.UPDATE, body[:-1]), LAYOUT, limit_bytes=LIMIT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("examples", 0),
        ("examples", MAX_EXAMPLES + 1),
        ("votes", ~TRAINED),
        ("scores", np.where(TRAINED, np.float32(1.5), np.float32(0))),
        ("scores", np.where(TRAINED, np.float32(np.nan), np.float32(0))),
        ("scores", np.ones((2, 3), dtype=np.float32)),
    ],
)
def test_impossible_updates_are_refused(field: str, value: object) -> None:
    with pytest.raises(PayloadError):
        encode_update(dataclasses.replace(_update(), **{field: value}), LAYOUT)


@pytest.mark.parametrize(("field", "value"), [("version_to", 0), ("mask", ~TRAINED)])
def test_impossible_deltas_are_refused(field: str, value: object) -> None:
    with pytest.raises(PayloadError):
        encode_delta(dataclasses.replace(_delta(), **{field: value}), LAYOUT)


_DECODERS = {
    Kind.UPDATE: lambda data: decode_update(data, LAYOUT, limit_bytes=LIMIT),
    Kind.DELTA: lambda data: decode_delta(data, LAYOUT),
}
