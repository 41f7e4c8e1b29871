from __future__ import annotations

import hashlib
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.container import FORMAT, HEADER_BYTES, MAGIC, Kind, Reader, seal, sealed_limit_bytes, unseal
from edge_agent.wire.errors import PayloadError, WireError


def _sealed_by_hand(kind: Kind, packed: bytes) -> bytes:
    head = MAGIC + kind.value + bytes([FORMAT])
    return head + hashlib.sha256(head + packed).digest() + packed


@given(st.binary(max_size=300), st.sampled_from(Kind))
def test_unseal_undoes_seal(body: bytes, kind: Kind) -> None:
    assert unseal(kind, seal(kind, body), len(body)) == body


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        unseal(Kind.UPDATE, data, 1000)


@given(st.binary(max_size=200))
def test_a_body_that_is_no_stream_is_refused(packed: bytes) -> None:
    with pytest.raises(WireError):
        unseal(Kind.UPDATE, _sealed_by_hand(Kind.UPDATE, b"\x00" + packed), 1000)


@given(st.data())
def test_one_changed_byte_is_refused(data: st.DataObject) -> None:
    sealed = bytearray(seal(Kind.DELTA, b"twelve bytes"))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PayloadError):
        unseal(Kind.DELTA, bytes(sealed), 1000)


def test_every_truncation_is_refused() -> None:
    sealed = seal(Kind.SNAPSHOT, bytes(range(100)))
    for length in range(len(sealed)):
        with pytest.raises(PayloadError):
            unseal(Kind.SNAPSHOT, sealed[:length], 1000)


def test_a_stream_cut_short_under_a_valid_checksum_is_refused() -> None:
    packed = zlib.compress(bytes(100))
    with pytest.raises(PayloadError, match="cut short"):
        unseal(Kind.UPDATE, _sealed_by_hand(Kind.UPDATE, packed[:-5]), 1000)


def test_bytes_behind_the_stream_are_refused() -> None:
    with pytest.raises(PayloadError, match="behind its end"):
        unseal(Kind.UPDATE, _sealed_by_hand(Kind.UPDATE, zlib.compress(b"x") + b"y"), 1000)


def test_a_bomb_is_not_inflated_past_the_limit() -> None:
    bomb = _sealed_by_hand(Kind.UPDATE, zlib.compress(bytes(50_000_000)))
    with pytest.raises(PayloadError, match="at most 1000 bytes"):
        unseal(Kind.UPDATE, bomb, 1000)


def test_another_kind_is_refused() -> None:
    with pytest.raises(PayloadError, match="expected a delta"):
        unseal(Kind.DELTA, seal(Kind.UPDATE, b""), 10)


def test_the_reader_takes_arrays_in_order_and_refuses_strays() -> None:
    reader = Reader(np.arange(3, dtype="<f4").tobytes() + b"ab")
    assert reader.take("<f4", (3, 1)).tolist() == [[0.0], [1.0], [2.0]]
    with pytest.raises(PayloadError, match="2 stray bytes"):
        reader.finish()
    assert reader.take_bytes(2) == b"ab"
    reader.finish()
    with pytest.raises(PayloadError, match="expected 1 more"):
        reader.take_bytes(1)


def test_the_header_is_documented() -> None:
    assert len(_sealed_by_hand(Kind.UPDATE, b"")) == HEADER_BYTES


@given(st.binary(max_size=5000))
def test_an_object_is_never_larger_than_its_limit(body: bytes) -> None:
    assert len(seal(Kind.UPDATE, body)) <= sealed_limit_bytes(len(body))
