from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import frame
from edge_agent.wire import messages as m
from edge_agent.wire.errors import FrameError, PayloadError, ProtocolError, WireError
from tests.wire.examples import ALL, FROM_AGENT, FROM_COORDINATOR, SHA

GOLDEN = Path(__file__).parents[1] / "golden" / "frames.json"
BOOT, SEQUENCE = 3, 2**33 + 1
AGENT, COORDINATOR = frame.Decoder(m.FromAgent), frame.Decoder(m.FromCoordinator)
ONE = frame.encode(m.Missing(SHA), BOOT, SEQUENCE)


def decoder_of(message: m.Message) -> frame.Decoder:
    return COORDINATOR if message in FROM_COORDINATOR else AGENT


def sealed(head: bytes, body: bytes) -> bytes:
    """A frame with a right checksum, whatever it holds."""
    return head + frame._digest(head, body) + body


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_frames_are_these_bytes_in_both_directions(message: m.Message) -> None:
    golden = bytes.fromhex(json.loads(GOLDEN.read_text())[type(message).__name__])
    assert frame.encode(message, BOOT, SEQUENCE) == golden
    assert decoder_of(message).decode(golden) == frame.Envelope(BOOT, SEQUENCE, message)


def test_golden_file_has_no_other_frames() -> None:
    assert set(json.loads(GOLDEN.read_text())) == {type(message).__name__ for message in ALL}


def test_header_lies_where_the_table_says() -> None:
    assert ONE[:2] == b"RF"
    assert ONE[2:4] == bytes([m.PROTOCOL, 0])
    assert int.from_bytes(ONE[4:8], "big") == BOOT
    assert int.from_bytes(ONE[8:16], "big") == SEQUENCE


def test_a_sequence_number_that_no_database_keeps_is_refused() -> None:
    message = m.Missing(SHA)
    assert AGENT.decode(frame.encode(message, BOOT, frame.MAX_SEQUENCE)).sequence == frame.MAX_SEQUENCE
    with pytest.raises(FrameError, match="sequence number"):
        AGENT.decode(frame.encode(message, BOOT, frame.MAX_SEQUENCE + 1))


@pytest.mark.parametrize("size_bytes", range(len(ONE)))
def test_truncated_at_any_byte_is_refused(size_bytes: int) -> None:
    with pytest.raises(FrameError):
        AGENT.decode(ONE[:size_bytes])


@pytest.mark.parametrize("at", range(len(ONE)))
def test_altered_at_any_byte_is_refused(at: int) -> None:
    altered = bytearray(ONE)
    altered[at] ^= 0x10
    with pytest.raises(ProtocolError if at == 2 else FrameError):
        AGENT.decode(bytes(altered))


def test_anything_behind_the_frame_is_refused() -> None:
    with pytest.raises(FrameError, match="checksum"):
        AGENT.decode(ONE + b"\0")


def test_another_protocol_version_says_which_side_to_update() -> None:
    other = ONE[:2] + bytes([m.PROTOCOL + 1]) + ONE[3:]
    with pytest.raises(ProtocolError, match=f"protocol {m.PROTOCOL}, the other side {m.PROTOCOL + 1}"):
        AGENT.decode(other)


def test_reserved_byte_must_be_zero() -> None:
    head = ONE[:3] + b"\x01" + ONE[4:16]
    with pytest.raises(FrameError):
        AGENT.decode(sealed(head, ONE[frame.HEADER_BYTES :]))


def test_oversized_frame_is_refused_before_anything_else() -> None:
    with pytest.raises(FrameError, match=str(frame.MAX_FRAME_BYTES)):
        AGENT.decode(bytes(frame.MAX_FRAME_BYTES + 1))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc0",
        b"\x81\xa1t\xa4none",
        b"\x81\xa1t\xa7missing",
        b"\x81\xa1t\xa2\xff\xff",
        b"\x91" * 100_000,
    ],
    ids=["empty", "null", "unknown kind", "field missing", "not UTF-8", "nested too deep"],
)
def test_body_that_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(PayloadError):
        AGENT.decode(sealed(ONE[:16], body))


@pytest.mark.parametrize("message", FROM_COORDINATOR, ids=lambda message: type(message).__name__)
def test_messages_of_the_other_direction_are_refused_by_the_coordinator(message: m.Message) -> None:
    with pytest.raises(PayloadError):
        AGENT.decode(frame.encode(message, BOOT, SEQUENCE))


@pytest.mark.parametrize("message", FROM_AGENT, ids=lambda message: type(message).__name__)
def test_messages_of_the_other_direction_are_refused_by_the_agent(message: m.Message) -> None:
    with pytest.raises(PayloadError):
        COORDINATOR.decode(frame.encode(message, BOOT, SEQUENCE))


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_wire_errors(data: bytes) -> None:
    for candidate in (data, b"RF" + data, sealed(ONE[:16], data)):
        with pytest.raises(WireError):
            AGENT.decode(candidate)


@given(
    data=st.binary(max_size=5000),
    offset_bytes=st.integers(0, 2**40),
    boot=st.integers(0, 2**32 - 1),
    sequence=st.integers(0, frame.MAX_SEQUENCE),
)
def test_any_chunk_comes_back(data: bytes, offset_bytes: int, boot: int, sequence: int) -> None:
    chunk = m.Chunk(SHA, offset_bytes, data)
    assert AGENT.decode(frame.encode(chunk, boot, sequence)) == frame.Envelope(boot, sequence, chunk)
