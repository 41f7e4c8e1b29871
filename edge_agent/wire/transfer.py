"""The pull of one object in chunks, in either direction, without I/O beyond its sink.

The receiver asks for a window of chunks and asks again for what does not come, so that loss, duplication and order do
not matter; the sender keeps no state. A chunk says where in the object it belongs, whatever size was asked for. Content
is known by its sha256, which is checked over the whole at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import ConfigError, PayloadError
from .frame import MAX_FRAME_BYTES, encode
from .messages import Chunk, ObjectRef, Want
from .pace import LEAST_CHUNK_BYTES
from .sinks import FileSink, MemorySink, Sink
from .sources import BytesSource, FileSource, Source

__all__ = [
    "BytesSource",
    "FileSink",
    "FileSource",
    "MemorySink",
    "Receiver",
    "Sink",
    "Source",
    "chunk_bytes_for",
    "serve",
]

OBJECT_LIMIT_BYTES = 2**30
_LARGE = 2**16
"""From this size on, MessagePack's header of binary data has its full length."""
_FRAME_OVERHEAD_BYTES = len(encode(Chunk(bytes(32), 2**40, bytes(_LARGE)), 0, 0)) - _LARGE


class Receiver:
    """One object on its way into `sink`, at most `window` chunks of it asked for at a time.

    Resumes with what the sink holds already. What came is booked in blocks of `LEAST_CHUNK_BYTES`, so the size of
    chunks may change at any time, and a late chunk of another size is as good.

    Raises:
        ConfigError: a window below 1, or chunks that are not of whole blocks.
        PayloadError: an object of more than `limit_bytes`.
        StoreError: the sink has no room for it.
    """

    def __init__(
        self, ref: ObjectRef, sink: Sink, chunk_bytes: int, window: int, *, limit_bytes: int = OBJECT_LIMIT_BYTES
    ) -> None:
        if ref.size_bytes > limit_bytes:
            raise PayloadError(f"a {ref.kind} may have {limit_bytes} bytes, {ref.size_bytes} are offered")
        self.ref = ref
        self._sink = sink
        self._chunk_bytes = chunk_bytes
        self.resize(chunk_bytes, window)
        self._open()

    @property
    def done(self) -> bool:
        """Whether every chunk is in the sink; `finish` comes next."""
        return not self._missing_blocks

    @property
    def waits(self) -> bool:
        """Whether something was asked for and did not come yet."""
        return bool(self._outstanding)

    def resize(self, chunk_bytes: int, window: int) -> None:
        """Asks for chunks of another size once those asked for came or were given up; for `window` of them at a time.

        Raises:
            ConfigError: a window below 1, or chunks that are not of whole blocks.
        """
        if window < 1:
            raise ConfigError(f"a window has at least 1 chunk, got {window}")
        if chunk_bytes < LEAST_CHUNK_BYTES or chunk_bytes % LEAST_CHUNK_BYTES:
            raise ConfigError(f"chunks have a multiple of {LEAST_CHUNK_BYTES} bytes, got {chunk_bytes}")
        self._next_chunk_bytes = chunk_bytes
        self._window = window

    def want(self) -> Want | None:
        """What to ask for now: nothing while more than half of the window is still on its way."""
        if len(self._outstanding) > self._window // 2 or not self._resized():
            return None
        indices: list[int] = []
        while len(self._outstanding) < self._window and (index := self._next()) is not None:
            indices.append(index)
            self._outstanding.add(index)
        return Want(self.ref.sha256, self._chunk_bytes, tuple(indices)) if indices else None

    def take(self, chunk: Chunk) -> bool:
        """Books a chunk; False if all of it was here already.

        Raises:
            PayloadError: a chunk of another object, beyond its end, or not of whole blocks.
            StoreError: the sink cannot keep it; all that came before is kept.
        """
        self._check(chunk)
        blocks = _span(chunk.offset_bytes, len(chunk.data), LEAST_CHUNK_BYTES)
        new_blocks = self._marks.count(0, blocks.start, blocks.stop)
        if not new_blocks:
            return False
        self._sink.write(chunk.offset_bytes, chunk.data)
        self._marks[blocks.start : blocks.stop] = b"\x01" * len(blocks)
        self._missing_blocks -= new_blocks
        asked = _span(chunk.offset_bytes, len(chunk.data), self._chunk_bytes)
        self._outstanding.difference_update([index for index in asked if self._is_here(index)])
        return True

    def timed_out(self) -> None:
        """Gives up waiting for what was asked for: the next `want` asks again."""
        self._outstanding.clear()
        self._asked_blocks = 0

    def finish(self) -> None:
        """Verifies the whole and completes the sink.

        Raises:
            PayloadError: it is not what its hash says. Everything was discarded, and `want` begins afresh.
            StoreError: the sink cannot be completed.
        """
        if self._missing_blocks:
            missing_bytes = self._missing_blocks * LEAST_CHUNK_BYTES
            raise PayloadError(f"a {self.ref.kind} still lacks up to {missing_bytes} of its bytes")
        found = self._sink.sha256()
        if found != self.ref.sha256:
            self._sink.discard()
            self._open()
            raise PayloadError(
                f"a {self.ref.kind} of {self.ref.size_bytes} bytes should have sha256 {self.ref.sha256.hex()}, "
                f"what came has {found.hex()}: discarded"
            )
        self._sink.complete()

    def _open(self) -> None:
        self._marks = self._sink.open(self.ref)
        self._missing_blocks = self._marks.count(0)
        self._asked_blocks = 0
        self._outstanding: set[int] = set()

    def _resized(self) -> bool:
        """Whether chunks are of the size that they should have; that changes only where none is on its way."""
        if self._chunk_bytes != self._next_chunk_bytes and not self._outstanding:
            self._chunk_bytes, self._asked_blocks = self._next_chunk_bytes, 0
        return self._chunk_bytes == self._next_chunk_bytes

    def _next(self) -> int | None:
        """The next chunk to ask for: the first behind those asked for that lacks a block."""
        block = self._marks.find(0, self._asked_blocks)
        if block < 0:
            return None
        blocks = self._chunk_bytes // LEAST_CHUNK_BYTES
        self._asked_blocks = (block // blocks + 1) * blocks
        return block // blocks

    def _is_here(self, index: int) -> bool:
        blocks = self._chunk_bytes // LEAST_CHUNK_BYTES
        return self._marks.find(0, index * blocks, (index + 1) * blocks) < 0

    def _check(self, chunk: Chunk) -> None:
        if chunk.sha256 != self.ref.sha256:
            raise PayloadError(f"expected a chunk of {self.ref.sha256.hex()}, got one of {chunk.sha256.hex()}")
        end_bytes = chunk.offset_bytes + len(chunk.data)
        if chunk.offset_bytes >= self.ref.size_bytes or end_bytes > self.ref.size_bytes:
            raise PayloadError(f"a chunk up to byte {end_bytes} lies beyond an object of {self.ref.size_bytes} bytes")
        whole = end_bytes % LEAST_CHUNK_BYTES == 0 or end_bytes == self.ref.size_bytes
        if chunk.offset_bytes % LEAST_CHUNK_BYTES or not chunk.data or not whole:
            raise PayloadError(
                f"a chunk has whole blocks of {LEAST_CHUNK_BYTES} bytes, got {len(chunk.data)} bytes from byte "
                f"{chunk.offset_bytes} on"
            )


def _span(offset_bytes: int, size_bytes: int, unit_bytes: int) -> range:
    """The units of `unit_bytes` that these bytes lie in."""
    return range(offset_bytes // unit_bytes, -(-(offset_bytes + size_bytes) // unit_bytes))


def serve(want: Want, source: Source, *, limit_bytes: int = MAX_FRAME_BYTES - _FRAME_OVERHEAD_BYTES) -> Iterator[Chunk]:
    """The chunks that `want` asks for, read one at a time.

    Raises:
        PayloadError: an index beyond the object, or chunks of more than `limit_bytes`.
        StoreError: the source cannot be read.
    """
    if want.chunk_bytes > limit_bytes:
        raise PayloadError(f"chunks have at most {limit_bytes} bytes here, {want.chunk_bytes} were asked for")
    for index in want.indices:
        offset_bytes = index * want.chunk_bytes
        left_bytes = source.size_bytes - offset_bytes
        if left_bytes <= 0:
            raise PayloadError(f"chunk {index} lies beyond an object of {source.size_bytes} bytes")
        yield Chunk(want.sha256, offset_bytes, source.read(offset_bytes, min(want.chunk_bytes, left_bytes)))


def chunk_bytes_for(max_payload_bytes: int) -> int:
    """The largest chunk of a power of two whose frame fits a payload.

    Raises:
        ConfigError: not even the smallest chunk fits.
    """
    room_bytes = min(max_payload_bytes, MAX_FRAME_BYTES) - _FRAME_OVERHEAD_BYTES
    if room_bytes < LEAST_CHUNK_BYTES:
        raise ConfigError(
            f"a payload of {max_payload_bytes} bytes leaves no room for a chunk of {LEAST_CHUNK_BYTES}: "
            "raise max_packet_bytes, here and at the broker"
        )
    return 1 << (room_bytes.bit_length() - 1)
