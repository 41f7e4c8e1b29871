"""The pull of one object in chunks, in either direction, without I/O beyond its sink.

The receiver asks for a window of chunks and asks again for what does not come, so that loss, duplication and order do
not matter; the sender keeps no state. Content is known by its sha256, which is checked over the whole at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .errors import ConfigError, PayloadError
from .frame import MAX_FRAME_BYTES, encode
from .messages import Chunk, ObjectRef, Want
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
LEAST_CHUNK_BYTES = 256
_LARGE = 2**16
"""From this size on, MessagePack's header of binary data has its full length."""
_FRAME_OVERHEAD_BYTES = len(encode(Chunk(bytes(32), 2**40, bytes(_LARGE)), 0, 0)) - _LARGE


class Receiver:
    """One object on its way into `sink`, at most `window` chunks of it asked for at a time.

    Resumes with what the sink holds already, at the chunk size that it began with unless that no longer fits.

    Raises:
        ConfigError: a window below 1.
        PayloadError: an object of more than `limit_bytes`.
        StoreError: the sink has no room for it.
    """

    def __init__(
        self, ref: ObjectRef, sink: Sink, chunk_bytes: int, window: int, *, limit_bytes: int = OBJECT_LIMIT_BYTES
    ) -> None:
        if window < 1:
            raise ConfigError(f"a window has at least 1 chunk, got {window}")
        if ref.size_bytes > limit_bytes:
            raise PayloadError(f"a {ref.kind} may have {limit_bytes} bytes, {ref.size_bytes} are offered")
        self.ref = ref
        self._sink = sink
        self._window = window
        self._limit_chunk_bytes = chunk_bytes
        self._open()

    @property
    def done(self) -> bool:
        """Whether every chunk is in the sink; `finish` comes next."""
        return not self._missing

    def want(self) -> Want | None:
        """What to ask for now: nothing while more than half of the window is still on its way."""
        if len(self._outstanding) > self._window // 2:
            return None
        indices: list[int] = []
        while self._unasked and len(self._outstanding) + len(indices) < self._window:
            index = self._unasked.popleft()
            if index in self._missing:
                indices.append(index)
        self._outstanding.update(indices)
        return Want(self.ref.sha256, self._chunk_bytes, tuple(indices)) if indices else None

    def take(self, chunk: Chunk) -> bool:
        """Books a chunk; False if it was here already.

        Raises:
            PayloadError: a chunk of another object, beyond its end, or of another length than asked for.
            StoreError: the sink cannot keep it; all that came before is kept.
        """
        self._check(chunk)
        if chunk.index not in self._missing:
            return False
        self._sink.write(chunk.index, chunk.data)
        self._missing.discard(chunk.index)
        self._outstanding.discard(chunk.index)
        return True

    def timed_out(self) -> None:
        """Gives up waiting for what was asked for: the next `want` asks again."""
        self._unasked.extendleft(sorted(self._outstanding, reverse=True))
        self._outstanding.clear()

    def finish(self) -> None:
        """Verifies the whole and completes the sink.

        Raises:
            PayloadError: it is not what its hash says. Everything was discarded, and `want` begins afresh.
            StoreError: the sink cannot be completed.
        """
        if self._missing:
            raise PayloadError(f"a {self.ref.kind} still lacks {len(self._missing)} of its chunks")
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
        self._chunk_bytes, here = self._sink.open(self.ref, self._limit_chunk_bytes)
        count = -(-self.ref.size_bytes // self._chunk_bytes)
        self._missing = set(range(count)) - here
        self._unasked = deque(sorted(self._missing))
        self._outstanding: set[int] = set()

    def _check(self, chunk: Chunk) -> None:
        if chunk.sha256 != self.ref.sha256:
            raise PayloadError(f"expected a chunk of {self.ref.sha256.hex()}, got one of {chunk.sha256.hex()}")
        expected_bytes = min(self._chunk_bytes, self.ref.size_bytes - chunk.index * self._chunk_bytes)
        if expected_bytes <= 0:
            raise PayloadError(f"chunk {chunk.index} lies beyond an object of {self.ref.size_bytes} bytes")
        if len(chunk.data) != expected_bytes:
            raise PayloadError(f"chunk {chunk.index} must have {expected_bytes} bytes, got {len(chunk.data)}")


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
        yield Chunk(want.sha256, index, source.read(offset_bytes, min(want.chunk_bytes, left_bytes)))


def chunk_bytes_for(max_payload_bytes: int) -> int:
    """The largest chunk whose frame fits a payload.

    Raises:
        ConfigError: not even the smallest chunk fits.
    """
    chunk_bytes = min(max_payload_bytes, MAX_FRAME_BYTES) - _FRAME_OVERHEAD_BYTES
    if chunk_bytes < LEAST_CHUNK_BYTES:
        raise ConfigError(
            f"a payload of {max_payload_bytes} bytes leaves no room for a chunk of {LEAST_CHUNK_BYTES}: "
            "raise max_packet_bytes, here and at the broker"
        )
    return chunk_bytes
