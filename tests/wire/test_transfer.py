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
from edge_agent.wire.pace import LEAST_CHUNK_BYTES
from edge_agent.wire.transfer import BytesSource, FileSink, MemorySink, Receiver, Sink, chunk_bytes_for, serve

CHUNK_BYTES = 1024


def ref_of(data: bytes) -> ObjectRef:
    return ObjectRef("delta", hashlib.sha256(data).digest(), len(data))


def data_of(chunks: int, rest_bytes: int = 0) -> bytes:
    return random.Random(chunks).randbytes(chunks * CHUNK_BYTES + rest_bytes)


SHA256 = ref_of(data_of(2, 9)).sha256


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
        (Chunk(SHA256, 3 * CHUNK_BYTES, b"x"), "beyond"),
        (Chunk(SHA256, 2**40, b"x"), "beyond"),
        (Chunk(SHA256, 2 * CHUNK_BYTES, bytes(CHUNK_BYTES)), "beyond"),
        (Chunk(SHA256, 2 * CHUNK_BYTES + 9, b""), "beyond"),
        (Chunk(SHA256, 0, bytes(CHUNK_BYTES - 1)), "got 1023 bytes from byte 0"),
        (Chunk(SHA256, 0, bytes(CHUNK_BYTES + 1)), "got 1025 bytes"),
        (Chunk(SHA256, 9, bytes(CHUNK_BYTES - 9)), "from byte 9"),
        (Chunk(SHA256, CHUNK_BYTES, b""), "got 0 bytes"),
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
    with pytest.raises(PayloadError, match="lacks up to 2048"):
        Receiver(ref_of(data_of(2)), MemorySink(), CHUNK_BYTES, window=1).finish()


def test_an_object_over_the_limit_is_refused() -> None:
    with pytest.raises(PayloadError, match="may have 2047 bytes, 2048"):
        Receiver(ref_of(data_of(2)), MemorySink(), CHUNK_BYTES, window=1, limit_bytes=2047)


@pytest.mark.parametrize(("chunk_bytes", "window"), [(CHUNK_BYTES, 0), (0, 1), (CHUNK_BYTES - 1, 1), (1536, 1)])
def test_a_window_holds_something_and_a_chunk_whole_blocks(chunk_bytes: int, window: int) -> None:
    with pytest.raises(ConfigError):
        Receiver(ref_of(b""), MemorySink(), chunk_bytes, window)


def test_another_size_waits_for_what_is_on_its_way_and_asks_for_nothing_twice() -> None:
    data = data_of(8, 5)
    sink = MemorySink()
    receiver = Receiver(ref_of(data), sink, 2 * CHUNK_BYTES, window=2)
    want = receiver.want()
    assert want is not None and want.indices == (0, 1)
    receiver.resize(CHUNK_BYTES, window=2)
    chunks = list(serve(want, BytesSource(data)))
    receiver.take(chunks[0])
    assert receiver.want() is None
    receiver.take(chunks[1])
    assert receiver.want() == Want(ref_of(data).sha256, CHUNK_BYTES, (4, 5))
    receiver.resize(4 * CHUNK_BYTES, window=1)
    receiver.timed_out()
    assert receiver.want() == Want(ref_of(data).sha256, 4 * CHUNK_BYTES, (1,))


def test_a_late_chunk_of_another_size_is_as_good() -> None:
    data = data_of(6)
    receiver = Receiver(ref_of(data), MemorySink(), 4 * CHUNK_BYTES, window=2)
    want = receiver.want()
    assert want is not None and want.indices == (0, 1)
    late = list(serve(want, BytesSource(data)))
    receiver.timed_out()
    receiver.resize(CHUNK_BYTES, window=6)
    want = receiver.want()
    assert want is not None and want.indices == (0, 1, 2, 3, 4, 5)
    assert receiver.take(late[1]), "its length is that of two chunks, and its number that of another"
    for chunk in list(serve(want, BytesSource(data)))[:4]:
        assert receiver.take(chunk)
    receiver.finish()


@settings(deadline=None, max_examples=60)
@given(
    blocks=st.integers(0, 40),
    rest_bytes=st.integers(0, LEAST_CHUNK_BYTES - 1),
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.7),
)
def test_sizes_may_change_at_any_time_and_nothing_is_lost_or_corrupted(
    blocks: int, rest_bytes: int, seed: int, loss: float
) -> None:
    data, chance = data_of(blocks, rest_bytes), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        sink = FileSink(Path(folder) / "object")
        receiver = Receiver(ref_of(data), sink, LEAST_CHUNK_BYTES, 1)
        network: list[Chunk] = []
        while not receiver.done:
            receiver.resize(LEAST_CHUNK_BYTES << chance.randint(0, 4), chance.randint(1, 5))
            if chance.random() < 0.2:
                receiver = Receiver(ref_of(data), sink, LEAST_CHUNK_BYTES << chance.randint(0, 4), 3)
            want = receiver.want()
            if want is None and not network:
                receiver.timed_out()
            network += [chunk for chunk in serve(want, BytesSource(data)) if chance.random() >= loss] if want else []
            chance.shuffle(network)
            if network:
                receiver.take(network.pop())
        receiver.finish()
        assert sink.path.read_bytes() == data


def test_a_sink_that_failed_is_asked_again() -> None:
    class Failing(MemorySink):
        full = True

        def write(self, offset_bytes: int, data: bytes) -> None:
            if self.full:
                raise StoreError("full")
            super().write(offset_bytes, data)

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
    with pytest.raises(PayloadError, match="at most 1023"):
        list(serve(Want(bytes(32), CHUNK_BYTES, (0,)), BytesSource(data_of(2)), limit_bytes=1023))


@given(st.integers(1200, 2**20))
def test_the_largest_chunk_fits_a_payload_and_the_next_power_of_two_does_not(max_payload_bytes: int) -> None:
    chunk = Chunk(bytes(32), 2**40, bytes(chunk_bytes_for(max_payload_bytes)))
    sealed = frame.encode(chunk, 2**32 - 1, frame.MAX_SEQUENCE)
    assert len(sealed) <= max_payload_bytes < len(sealed) + len(chunk.data)
    assert len(chunk.data).bit_count() == 1
    assert frame.Decoder(FromAgent).decode(sealed).message == chunk


def test_a_payload_too_small_for_any_chunk_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match="max_packet_bytes"):
        chunk_bytes_for(1100)
