from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.errors import PayloadError
from edge_agent.wire.messages import Chunk, ObjectRef, Want
from edge_agent.wire.pace import FIRST_CHUNK_BYTES, Pace
from edge_agent.wire.pull import TIMEOUT_S, Puller
from edge_agent.wire.transfer import BytesSource, FileSink, MemorySink, Receiver, serve

CHUNK_BYTES = 1024


def ref_of(data: bytes) -> ObjectRef:
    return ObjectRef("delta", hashlib.sha256(data).digest(), len(data))


def test_objects_come_one_after_another() -> None:
    puller, objects = Puller(), [b"a" * 1300, b"b" * 100, b""]
    sinks = [MemorySink() for _ in objects]
    for data, sink in zip(objects, sinks, strict=True):
        puller.add(ref_of(data), sink)
    done = []
    while puller.busy:
        want = puller.poll(CHUNK_BYTES, 0.0)
        data = next((data for data in objects if want is not None and ref_of(data).sha256 == want.sha256), b"")
        for chunk in serve(want, BytesSource(data)) if want else ():
            done.append(puller.take(chunk, 0.0))
    assert [ref for ref in done if ref] == [ref_of(objects[0]), ref_of(objects[1])]
    assert [sink.data for sink in sinks] == objects


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 9 * CHUNK_BYTES), max_size=4),
    window=st.integers(1, 8),
    loss=st.floats(0, 0.6),
    seed=st.integers(0, 2**32),
)
def test_everything_arrives_over_a_link_that_loses_repeats_and_reorders(
    sizes: list[int], window: int, loss: float, seed: int
) -> None:
    chance = random.Random(seed)
    objects = {ref_of(data).sha256: data for data in map(chance.randbytes, sizes)}
    puller, sinks = Puller(Pace(window=window)), {sha256: MemorySink() for sha256 in objects}
    for sha256, data in objects.items():
        puller.add(ref_of(data), sinks[sha256])
    network: list[Chunk] = []
    now_s = 0.0
    while puller.busy:
        now_s += TIMEOUT_S / 4
        want = puller.poll(CHUNK_BYTES, now_s)
        if want is not None and chance.random() >= loss:
            network += [chunk for chunk in serve(want, BytesSource(objects[want.sha256])) for _ in range(2)]
        chance.shuffle(network)
        for chunk in network[: len(network) // 2 + 1]:
            if chance.random() >= loss:
                puller.take(chunk, now_s)
        del network[: len(network) // 2 + 1]
    assert {sha256: sink.data for sha256, sink in sinks.items()} == objects


def proven() -> Pace:
    """Of a link on which chunks of this size get through."""
    pace = Pace(first_chunk_bytes=CHUNK_BYTES)
    pace.came(CHUNK_BYTES, 0.0)
    return pace


def test_what_did_not_come_is_asked_for_again_after_the_timeout() -> None:
    puller = Puller(proven(), timeout_s=5.0)
    puller.add(ref_of(b"a" * 2500), MemorySink())
    first = puller.poll(CHUNK_BYTES, 0.0)
    assert first is not None and first.indices == (0, 1, 2)
    assert puller.poll(CHUNK_BYTES, 4.9) is None
    assert puller.poll(CHUNK_BYTES, 5.0) == first


def test_what_did_not_come_is_asked_for_again_at_once_after_an_interruption() -> None:
    puller = Puller(proven())
    puller.add(ref_of(b"a" * 2500), MemorySink())
    puller.interrupted()
    first = puller.poll(CHUNK_BYTES, 0.0)
    assert first is not None
    puller.interrupted()
    assert puller.poll(CHUNK_BYTES, 0.1) == first


def test_a_sign_of_life_puts_the_timeout_off() -> None:
    data = bytes(2500)
    puller = Puller(proven(), timeout_s=5.0)
    puller.add(ref_of(data), MemorySink())
    first = puller.poll(CHUNK_BYTES, 0.0)
    assert isinstance(first, Want)
    puller.take(next(serve(first, BytesSource(data))), 3.0)
    assert puller.poll(CHUNK_BYTES, 7.9) is None
    again = puller.poll(CHUNK_BYTES, 8.0)
    assert again is not None and again.indices == (1, 2)


@pytest.mark.parametrize("limit_bytes", [1024, 2048, 8192, 65536])
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_peer_whose_larger_chunks_vanish_is_asked_for_smaller_ones(
    limit_bytes: int, in_memory: bool, tmp_path: Path
) -> None:
    """As where a broker acknowledges what is over its limit and drops it."""
    data = random.Random(0).randbytes(3_000_003)
    puller, sink = Puller(), MemorySink() if in_memory else FileSink(tmp_path / "object")
    puller.add(ref_of(data), sink)
    vanished: list[int] = []
    came_bytes, now_s = 0, 0.0
    while puller.busy:
        now_s += 0.01
        want = puller.poll(131_072, now_s)
        if want is None:
            now_s += TIMEOUT_S
            continue
        for chunk in serve(want, BytesSource(data)):
            if len(chunk.data) > limit_bytes:
                vanished.append(len(chunk.data))
            else:
                came_bytes += len(chunk.data)
                puller.take(chunk, now_s)
    assert (sink.data if isinstance(sink, MemorySink) else sink.path.read_bytes()) == data
    assert came_bytes < len(data) + limit_bytes, "only where chunks grow may part of one be here already"
    assert len(vanished) <= 8, "a size that did not get through is remembered"
    assert max(vanished) == max(2 * limit_bytes, FIRST_CHUNK_BYTES)


def test_the_pace_outlives_the_objects() -> None:
    pace, data = Pace(), bytes(1_000_000)
    sizes = []
    for _ in range(2):
        puller = Puller(pace)
        puller.add(ref_of(data), MemorySink())
        while puller.busy:
            want = puller.poll(2**16, 0.0)
            assert want is not None
            sizes.append(want.chunk_bytes)
            for chunk in serve(want, BytesSource(data)):
                puller.take(chunk, 0.0)
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (FIRST_CHUNK_BYTES, 2**16)


def test_a_file_that_holds_every_chunk_is_completed_without_asking(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(4000)
    fill(tmp_path / "object", data, data)
    puller = Puller()
    puller.add(ref_of(data), FileSink(tmp_path / "object"))
    assert puller.poll(CHUNK_BYTES, 0.0) is None
    assert not puller.busy
    assert (tmp_path / "object").read_bytes() == data


def test_a_file_whose_chunks_were_damaged_is_pulled_afresh(tmp_path: Path) -> None:
    """As after a power cut that kept the marks and lost the chunks."""
    data = random.Random(1).randbytes(4000)
    fill(tmp_path / "object", data, bytes(4000))
    puller = Puller(proven())
    puller.add(ref_of(data), FileSink(tmp_path / "object"))
    with pytest.raises(PayloadError, match="discarded"):
        puller.poll(CHUNK_BYTES, 0.0)
    want = puller.poll(CHUNK_BYTES, 0.0)
    assert want is not None and want.indices == (0, 1, 2, 3)
    for chunk in serve(want, BytesSource(data)):
        puller.take(chunk, 0.0)
    assert (tmp_path / "object").read_bytes() == data and not puller.busy


def fill(path: Path, promised: bytes, found: bytes) -> None:
    """Every chunk of an object in its part file, which was not completed."""
    receiver = Receiver(ref_of(promised), FileSink(path), CHUNK_BYTES, window=9)
    want = receiver.want()
    assert want is not None
    for chunk in serve(want, BytesSource(found)):
        receiver.take(chunk)


def test_objects_that_are_not_what_their_hash_says_are_counted_and_stay_wanted() -> None:
    puller = Puller()
    puller.add(ref_of(b"a" * 100), MemorySink())
    for count in (1, 2):
        want = puller.poll(CHUNK_BYTES, 0.0)
        assert want is not None
        with pytest.raises(PayloadError, match="discarded"):
            puller.take(Chunk(want.sha256, 0, b"b" * 100), 0.0)
        assert puller.mismatches == count and puller.busy
    puller.clear()
    assert puller.mismatches == 0


def test_what_nobody_asked_for_is_ignored() -> None:
    puller = Puller()
    assert puller.take(Chunk(bytes(32), 0, b"x"), 0.0) is None
    puller.add(ref_of(b"a"), MemorySink())
    puller.poll(CHUNK_BYTES, 0.0)
    assert puller.take(Chunk(bytes(32), 0, b"x"), 0.0) is None
    assert puller.wants(ref_of(b"a").sha256) and not puller.wants(bytes(32))


def test_a_cleared_puller_wants_nothing() -> None:
    puller = Puller()
    puller.add(ref_of(b"a"), MemorySink())
    puller.poll(CHUNK_BYTES, 0.0)
    puller.clear()
    assert not puller.busy and puller.poll(CHUNK_BYTES, 99.0) is None
