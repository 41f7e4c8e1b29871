"""Looks at the fleet once a second while somebody watches, and tells every watcher what has changed.

One thread reads, for all of them. A watcher that is slow gets the newest state when it is ready, not all that was
between.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor

from coordinator.web import state
from coordinator.web.reader import Reader
from edge_agent.wire.errors import RankfleetError

LOGGER = logging.getLogger("rankfleet.page")
LOOK_EVERY_S = 1.0
BEAT_S = 15.0
"""So often something is said, so that a connection that is gone is noticed."""
_BEAT = b": still here\n\n"


class Feed:
    """`reader` is used in a thread of its own, `now_s` gives the date. `close` ends it and all that `follow` gives."""

    def __init__(self, reader: Reader, now_s: Callable[[], float]) -> None:
        self._reader = reader
        self._now_s = now_s
        self._thread = ThreadPoolExecutor(1, "page")
        self._found: state.Snapshot | None = None
        self._looked_s = -LOOK_EVERY_S
        self._closed = False
        self._failure = ""

    async def look(self) -> state.Snapshot:
        """The fleet as it was at most a second ago.

        Raises:
            RankfleetError: it cannot be read.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._look)

    async def follow(self, is_allowed: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Server-sent events, for as long as `is_allowed`: everything, then the changes."""
        before: state.Snapshot | None = None
        said_s = time.monotonic()
        while not self._closed and is_allowed():
            try:
                after = await self.look()
            except RankfleetError as error:
                self._tell(str(error))
                yield b"event: failure\ndata: {}\n\n"
                before = None
                await self._wait(LOOK_EVERY_S)
                continue
            self._failure = ""
            body, before = state.message(before, after, self._now_s()), after
            if body is not None:
                yield b"data: " + body + b"\n\n"
                said_s = time.monotonic()
            elif time.monotonic() - said_s >= BEAT_S:
                yield _BEAT
                said_s = time.monotonic()
            await self._wait(LOOK_EVERY_S)

    def end(self) -> None:
        """Ends what is followed, soon."""
        self._closed = True

    def begin(self) -> None:
        """Lets it be followed again."""
        self._closed = False

    def close(self) -> None:
        """Ends the thread."""
        self.end()
        self._thread.submit(self._reader.close)
        self._thread.shutdown()

    def _look(self) -> state.Snapshot:
        now_s = time.monotonic()
        if self._found is None or now_s - self._looked_s >= 0.9 * LOOK_EVERY_S:
            self._found, self._looked_s = self._reader.read(self._now_s()), now_s
        return self._found

    async def _wait(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not self._closed and time.monotonic() < end_s:
            await asyncio.sleep(0.1)

    def _tell(self, failure: str) -> None:
        if failure != self._failure:
            LOGGER.error("the page cannot show the fleet: %s", failure)
        self._failure = failure
