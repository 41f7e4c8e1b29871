"""Small inputs that stand for large ones are refused before they fill the memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge_agent.data import LINE_LIMIT_BYTES, read_examples
from edge_agent.wire import codec, frame
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.container import Kind
from edge_agent.wire.errors import RankfleetError
from tests.fuzz.network import LAYOUT, sealed_frame, sealed_stream
from tests.wire.examples import REPORT

MIB = 2**20
INFLATED_BYTES = 100 * MIB
OBJECT_CAP_BYTES = MIB
"""For objects of a layout in which none has 1 KiB; the bomb itself has 100 KiB, of which a few copies are made."""
LINE_CAP_BYTES = 3 * LINE_LIMIT_BYTES


def peak_bytes(decode: Callable[[], object]) -> int:
    """The most memory that a refusal takes beside what was there."""
    tracemalloc.start()
    try:
        with pytest.raises(RankfleetError):
            decode()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", Kind)
def test_an_object_is_not_inflated_beyond_its_layout(kind: Kind) -> None:
    bomb = sealed_stream(zlib.compress(bytes(INFLATED_BYTES), 9), kind)
    decoders = {
        Kind.UPDATE: lambda: codec.decode_update(bomb, LAYOUT, limit_bytes=len(bomb)),
        Kind.DELTA: lambda: codec.decode_delta(bomb, LAYOUT),
        Kind.SNAPSHOT: lambda: states.from_bytes(bomb, LAYOUT),
    }
    assert peak_bytes(decoders[kind]) < OBJECT_CAP_BYTES


def test_a_list_is_not_made_as_long_as_it_says() -> None:
    body = msgspec.msgpack.encode(m.Offer(1, m.ObjectRef("update", bytes(32), 400), REPORT))
    at = body.index(b"phases") + len(b"phases")
    longer = body[:at] + b"\xdd\xff\xff\xff\xff" + body[at + 1 :]
    assert peak_bytes(lambda: frame.Decoder(m.FromAgent).decode(sealed_frame(longer))) < OBJECT_CAP_BYTES


@pytest.mark.parametrize("name", ["bomb.jsonl.gz", "bomb.csv.gz"])
def test_a_compressed_line_is_not_read_beyond_its_limit(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(INFLATED_BYTES)))
    assert peak_bytes(lambda: read_examples(path, None)) < LINE_CAP_BYTES
