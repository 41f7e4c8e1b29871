"""How much to ask a peer for at once: chunks that get through, and no more of them than the link carries in seconds.

Nobody says what gets through. A broker may acknowledge what is over its limit and drop it, or end the connection of
whoever sent it, and MQTT 3.1.1 announces no limit. So sizes are tried: from a small one upwards, in powers of two, one
chunk of each first. A size that never came, where a smaller one does, is tried again only after many more chunks.
"""

from __future__ import annotations

import logging

LOGGER = logging.getLogger("rankfleet.wire")

LEAST_CHUNK_BYTES = 1024
"""Also the unit in which a receiver books what came: every chunk begins and ends at a multiple of it."""
FIRST_CHUNK_BYTES = 16 * 1024
"""Two seconds at 64 kbit/s."""
WINDOW = 16
"""Most chunks on their way, and how many must come before the next size is tried."""
CAUTION = 8
"""How many times more must come after a size that did not get through."""
BRISK_S = 0.5
SLOW_S = 2.0
"""Chunks that take no longer than the one may grow; those that take longer than the other shrink."""
AHEAD_S = 4.0
"""How much is on its way, in time."""


class Pace:
    """What is known of the way from one peer to us. Times are monotonic seconds."""

    def __init__(self, *, first_chunk_bytes: int = FIRST_CHUNK_BYTES, window: int = WINDOW) -> None:
        self._size_bytes = first_chunk_bytes
        self._limit_bytes = first_chunk_bytes
        self._window = window
        self._came_bytes = 0
        """The largest chunk that ever came."""
        self._patience = WINDOW
        self._streak = 0
        self._since_s: float | None = None
        self._gap_s = 1.0

    @property
    def window(self) -> int:
        """How many chunks to have on their way; one where it is not known whether any of this size gets through."""
        if self._size_bytes > self._came_bytes:
            return 1
        return max(1, min(self._window, int(AHEAD_S / max(self._gap_s, 1e-3))))

    def chunk_bytes(self, limit_bytes: int) -> int:
        """The size of chunks to ask for, a power of two; `limit_bytes` is the largest that the link can take."""
        self._limit_bytes = limit_bytes
        if self._size_bytes > limit_bytes:
            self._resize(limit_bytes)
        return self._size_bytes

    def came(self, size_bytes: int, now_s: float) -> None:
        """A new chunk came. Several in a row decide about the next size."""
        self._came_bytes = max(self._came_bytes, size_bytes)
        if size_bytes != self._size_bytes:
            return
        if self._since_s is None:
            self._since_s = now_s
            return
        self._streak += 1
        self._gap_s = (now_s - self._since_s) / self._streak
        if self._gap_s > SLOW_S:
            self._resize(self._size_bytes // 2)
        elif self._gap_s <= BRISK_S and self._streak >= self._needed() and self._size_bytes < self._limit_bytes:
            self._resize(self._size_bytes * 2)

    def paused(self) -> None:
        """Nothing was asked for: the time until the next chunk tells nothing."""
        self._streak, self._since_s = 0, None

    def silent(self) -> None:
        """Nothing came of what was asked for: half the size may get through, and half as much is on its way."""
        if self._size_bytes > self._came_bytes > 0:
            self._patience *= CAUTION
            LOGGER.warning(
                "chunks of %d bytes do not arrive, of %d they did: going on with smaller ones; if the broker takes no "
                "packets of this size, set broker.max_packet_bytes to what it takes, on both sides",
                self._size_bytes,
                self._came_bytes,
            )
        gap_s = self._gap_s
        self._resize(self._size_bytes // 2)
        self._gap_s = gap_s

    def _needed(self) -> int:
        """Chunks in a row before the next size: more where that one may not get through."""
        return WINDOW if self._size_bytes < self._came_bytes else self._patience

    def _resize(self, size_bytes: int) -> None:
        size_bytes = max(LEAST_CHUNK_BYTES, size_bytes)
        self._gap_s *= size_bytes / self._size_bytes
        self._size_bytes = size_bytes
        self.paused()
