from __future__ import annotations

import hashlib
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire import frame
from edge_agent.wire.errors import ConfigError, PayloadError, StoreError
from edge_agent.wire.messages import Chunk, FromAgent, ObjectRef, Want
from edge_agent.wire.transfer import BytesSource, FileSink, MemorySink, Receiver, Sink, chunk_bytes_for, serve

CHUNK_BYTES = 256


def ref_of(data: bytes) -> ObjectRef:
    return ObjectRef("delta", hashlib.sha256(data).digest(), len(data))


def data_of(chunks: int, rest_bytes: int = 0) -> bytes:
    return random.Random(chunks).randbytes(chunks * CHUNK_BYTES + rest_bytes)


def pull(receiver: Receiver, data: bytes) -> None:
    """Over a perfect link."""
    while (want := receiver.want()) is not None:
        for chunk in serve(want, BytesSource(data)):
            receiver.take(chunk)


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES])
def test_an_object_of_any_size_arrives(size_bytes: int) -> None:
    data = random.Random(size_bytes).randbytes(size_bytes)
    sink = MemorySink()
    receiver = Receiver(ref_of(data), sink, CHUNK_BYTES, window=4)
    pull(receiver, data)
    assert receiver.done
    receiver.finish()
    assert sink.data == data


@settings(deadline=None, max_examples=60)
@given(
    chunks=st.integers(0, 12),
    rest_bytes=st.integers(0, CHUNK_BYTES - 1),
    window=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.7),
)
def test_loss_duplication_and_order_do_not_matter(
    chunks: int, rest_bytes: int, window: int, seed: int, loss: float
) -> None:
    data, chance = data_of(chunks, rest_bytes), random.Random(seed)
    sink = MemorySink()
    receiver = Receiver(ref_of(data), sink, CHUNK_BYTES, window)
    network: list[Chunk] = []
    while not receiver.done:
        want = receiver.want()
        if want is None and not network:
            receiver.timed_out()
        if want is not None:
            assert len(want.indices) <= window
            sent = list(serve(want, BytesSource(data)))
            network += [chunk for chunk in sent + sent if chance.random() >= loss]
        chance.shuffle(network)
        if network:
            receiver.take(network.pop())
    receiver.finish()
    assert sink.data == data


@settings(deadline=None, max_examples=30)
@given(chunks=st.integers(1, 8), seed=st.integers(0, 2**32), lives=st.integers(1, 5))
def test_a_restart_at_any_point_goes_on_where_it_was(chunks: int, seed: int, lives: int) -> None:
    data, chance = data_of(chunks, 7), random.Random(seed)
    taken = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        for _ in range(lives):
            receiver = Receiver(ref_of(data), FileSink(path), CHUNK_BYTES, window=chunks + 1)
            want = receiver.want()
            if want is not None:
                coming = list(serve(want, BytesSource(data)))
                chance.shuffle(coming)
                taken += sum(receiver.take(chunk) for chunk in coming[: chance.randint(0, len(coming))])
        receiver = Receiver(ref_of(data), FileSink(path), CHUNK_BYTES, window=3)
        missing = chunks + 1 - taken
        asked = receiver.want()
        assert len(asked.indices if asked else ()) == min(3, missing)
        receiver.timed_out()
        pull(receiver, data)
        receiver.finish()
        assert path.read_bytes() == data


def test_never_more_than_a_window_is_on_its_way() -> None:
    data = data_of(20)
    receiver = Receiver(ref_of(data), MemorySink(), CHUNK_BYTES, window=4)
    want = receiver.want()
    assert want == Want(ref_of(data).sha256, CHUNK_BYTES, (0, 1, 2, 3))
    assert receiver.want() is None
    chunks = list(serve(want, BytesSource(data)))
    assert receiver.take(chunks[3])
    assert receiver.want() is None
    assert receiver.take(chunks[0])
    assert receiver.want() == Want(ref_of(data).sha256, CHUNK_BYTES, (4, 5))


def test_only_what_did_not_come_is_asked_for_again() -> None:
    data = data_of(6)
    receiver = Receiver(ref_of(data), MemorySink(), CHUNK_BYTES, window=4)
    want = receiver.want()
    assert want is not None
    receiver.take(list(serve(want, BytesSource(data)))[1])
    receiver.timed_out()
    again = receiver.want()
    assert again is not None and again.indices == (0, 2, 3, 4)


def test_a_chunk_that_was_given_up_is_still_welcome() -> None:
    data = data_of(2)
    receiver = Receiver(ref_of(data), MemorySink(), CHUNK_BYTES, window=1)
    late = list(serve(receiver.want() or pytest.fail("nothing wanted"), BytesSource(data)))
    receiver.timed_out()
    assert receiver.take(late[0])
    assert not receiver.take(late[0])
    want = receiver.want()
    assert want is not None and want.indices == (1,)


@pytest.mark.parametrize(
    ("chunk", "why"),
    [
        (Chunk(bytes(32), 0, bytes(CHUNK_BYTES)), "expected a chunk of"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 3, b"x"), "beyond"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 2**40, b"x"), "beyond"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 0, bytes(CHUNK_BYTES - 1)), "must have 256 bytes, got 255"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 0, bytes(CHUNK_BYTES + 1)), "must have 256 bytes, got 257"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 2, bytes(CHUNK_BYTES)), "must have 9 bytes"),
        (Chunk(ref_of(data_of(2, 9)).sha256, 1, b""), "got 0"),
    ],
)
def test_impossible_chunks_are_refused_and_change_nothing(chunk: Chunk, why: str) -> None:
    data, sink = data_of(2, 9), MemorySink()
    receiver = Receiver(ref_of(data), sink, CHUNK_BYTES, window=4)
    with pytest.raises(PayloadError, match=why):
        receiver.take(chunk)
    pull(receiver, data)
    receiver.finish()
    assert sink.data == data


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_altered_content_is_discarded_and_pulled_afresh(kind: str, tmp_path: Path) -> None:
    data = data_of(3)
    sink: Sink = MemorySink() if kind == "memory" else FileSink(tmp_path / "object")
    receiver = Receiver(ref_of(data), sink, CHUNK_BYTES, window=8)
    pull(receiver, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(PayloadError, match="discarded"):
        receiver.finish()
    assert not receiver.done
    assert not (tmp_path / "object").exists()
    pull(receiver, data)
    receiver.finish()
    assert (sink.data if isinstance(sink, MemorySink) else (tmp_path / "object").read_bytes()) == data


def test_an_unfinished_object_cannot_be_finished() -> None:
    with pytest.raises(PayloadError, match="lacks 2"):
        Receiver(ref_of(data_of(2)), MemorySink(), CHUNK_BYTES, window=1).finish()


def test_an_object_over_the_limit_is_refused() -> None:
    with pytest.raises(PayloadError, match="may have 511 bytes, 512"):
        Receiver(ref_of(data_of(2)), MemorySink(), CHUNK_BYTES, window=1, limit_bytes=511)


def test_a_window_holds_something() -> None:
    with pytest.raises(ConfigError):
        Receiver(ref_of(b""), MemorySink(), CHUNK_BYTES, window=0)


def test_a_sink_that_failed_is_asked_again() -> None:
    class Failing(MemorySink):
        full = True

        def write(self, index: int, data: bytes) -> None:
            if self.full:
                raise StoreError("full")
            super().write(index, data)

    data, sink = data_of(2), Failing()
    receiver = Receiver(ref_of(data), sink, CHUNK_BYTES, window=2)
    with pytest.raises(StoreError):
        pull(receiver, data)
    sink.full = False
    receiver.timed_out()
    pull(receiver, data)
    receiver.finish()
    assert sink.data == data


@pytest.mark.parametrize("indices", [(2,), (0, 5), (2**24,)])
def test_chunks_beyond_the_object_are_not_served(indices: tuple[int, ...]) -> None:
    with pytest.raises(PayloadError, match="beyond"):
        list(serve(Want(bytes(32), CHUNK_BYTES, indices), BytesSource(data_of(2))))


def test_chunks_over_the_senders_limit_are_not_served() -> None:
    with pytest.raises(PayloadError, match="at most 255"):
        list(serve(Want(bytes(32), CHUNK_BYTES, (0,)), BytesSource(data_of(2)), limit_bytes=255))


@given(st.integers(500, 2**20))
def test_the_largest_chunk_fills_a_payload_and_never_more(max_payload_bytes: int) -> None:
    chunk = Chunk(bytes(32), 2**40, bytes(chunk_bytes_for(max_payload_bytes)))
    sealed = frame.encode(chunk, 2**32 - 1, frame.MAX_SEQUENCE)
    assert max_payload_bytes - 3 <= len(sealed) <= max_payload_bytes
    assert frame.Decoder(FromAgent).decode(sealed).message == chunk


def test_a_payload_too_small_for_any_chunk_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="max_packet_bytes"):
        chunk_bytes_for(300)
