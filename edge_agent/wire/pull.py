"""Pulls objects from one peer, one after another, whatever the link loses. Without I/O beyond its sinks."""

from __future__ import annotations

from collections import deque

from .errors import PayloadError
from .messages import Chunk, ObjectRef, Want
from .pace import Pace
from .transfer import Receiver, Sink

TIMEOUT_S = 5.0


class Puller:
    """The queue of objects wanted from one peer.

    Chunks are asked for a window at a time, at the `pace` of the link, which outlives the objects. What did not come
    within `timeout_s` of the last sign of life is asked for again, in smaller chunks.
    """

    def __init__(self, pace: Pace | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        self._pace = pace or Pace()
        self._timeout_s = timeout_s
        self._queue: deque[tuple[ObjectRef, Sink]] = deque()
        self._receiver: Receiver | None = None
        self._alive_s = 0.0
        self.mismatches = 0
        """How many whole objects were not what their hash says, since the last `clear`."""

    @property
    def busy(self) -> bool:
        """Whether anything is still to come."""
        return self._receiver is not None or bool(self._queue)

    def add(self, ref: ObjectRef, sink: Sink) -> None:
        """Queues one object."""
        self._queue.append((ref, sink))

    def clear(self) -> None:
        """Forgets everything wanted; sinks on disk keep what came."""
        self._queue.clear()
        self._receiver = None
        self.mismatches = 0

    def interrupted(self) -> None:
        """The connection was lost, ours or the peer's: what was asked for may never come, and is asked for again."""
        if self._receiver is not None and self._receiver.waits:
            self._pace.silent()
            self._receiver.timed_out()

    def poll(self, limit_bytes: int, now_s: float) -> Want | None:
        """What to ask the peer for now, if anything, in chunks of at most `limit_bytes`. Raises as `take`."""
        receiver = self._current(limit_bytes, now_s)
        if receiver is None:
            return None
        if now_s - self._alive_s >= self._timeout_s:
            self.interrupted()
            self._alive_s = now_s
        receiver.resize(self._pace.chunk_bytes(limit_bytes), self._pace.window)
        return receiver.want()

    def wants(self, sha256: bytes) -> bool:
        """Whether the object with this hash is being pulled now."""
        return self._receiver is not None and self._receiver.ref.sha256 == sha256

    def take(self, chunk: Chunk, now_s: float) -> ObjectRef | None:
        """Books a chunk; returns the object that it completed. One that nobody asked for is ignored.

        Raises:
            PayloadError: a chunk that cannot be, or an object that is not what its hash says: it is pulled afresh.
            StoreError: the sink cannot take it; what came before is kept.
        """
        receiver = self._receiver
        if receiver is None or receiver.ref.sha256 != chunk.sha256:
            return None
        self._alive_s = now_s
        if receiver.take(chunk):
            self._pace.came(len(chunk.data), now_s)
        return self._finish(receiver) if receiver.done else None

    def _current(self, limit_bytes: int, now_s: float) -> Receiver | None:
        """The object being pulled; one whose sink turns out to hold all of it is completed on the way."""
        while self._receiver is None and self._queue:
            ref, sink = self._queue.popleft()
            receiver = Receiver(ref, sink, self._pace.chunk_bytes(limit_bytes), self._pace.window)
            self._pace.paused()
            self._receiver, self._alive_s = receiver, now_s
            if receiver.done:
                self._finish(receiver)
        return self._receiver

    def _finish(self, receiver: Receiver) -> ObjectRef:
        """Completes the object being pulled; one that is not what its hash says stays wanted, from its first chunk."""
        try:
            receiver.finish()
        except PayloadError:
            self.mismatches += 1
            raise
        self._receiver = None
        return receiver.ref
