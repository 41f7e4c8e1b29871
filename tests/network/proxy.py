"""A flaky TCP proxy: it delays, limits the rate, drops connections, and leaves them half open. Seeded."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PIECE_BYTES = 4096
STOP_S = 10.0


@dataclass(frozen=True)
class Faults:
    """What happens to every connection from now on; pairs are the bounds of a draw."""

    delay_s: tuple[float, float] = (0.0, 0.0)
    """How long each piece of at most `PIECE_BYTES` waits. Their order stays."""
    rate_bytes_per_s: float | None = None
    """Of each direction of each connection."""
    drop_after_bytes: tuple[int, int] | None = None
    """A connection is reset after so many bytes, both directions together."""
    drop_after_s: tuple[float, float] | None = None
    """A connection is reset after so long."""


class Proxy:
    """Listens on loopback at `port` and forwards to `target`; any thread may use it."""

    host = "127.0.0.1"

    def __init__(self, target: tuple[str, int], faults: Faults | None = None, *, seed: int = 0) -> None:
        self.faults = faults or Faults()
        self.connections = 0
        """How many came so far."""
        self.bytes_up = 0
        self.bytes_down = 0
        """What was forwarded to the target, and from it."""
        self._target = target
        self._chance = random.Random(seed)
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_S)
        self._loop.close()

    def cut(self) -> None:
        """Resets every connection; new ones are taken."""
        self._call(self._reset())

    def freeze(self, *, up: bool = True, down: bool = True) -> None:
        """Leaves every connection half open: what is sent is taken and lost, and nobody is told. New ones are well."""
        self._call(self._freeze(up=up, down=down))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_S)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._listener)

    async def _end(self) -> None:
        self._server.close()
        ended = [connection.ended.wait() for connection in self._open]
        await self._reset()
        await asyncio.gather(*ended)

    async def _reset(self) -> None:
        for connection in tuple(self._open):
            connection.reset()

    async def _freeze(self, *, up: bool, down: bool) -> None:
        for connection in self._open:
            connection.frozen_up |= up
            connection.frozen_down |= down

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        chance = random.Random(self._chance.random())
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, chance, writer, target_writer)
        self._open.add(connection)
        await connection.run(reader, target_reader)
        self._open.discard(connection)


class _Connection:
    """One connection through the proxy, and what is to happen to it."""

    def __init__(
        self, proxy: Proxy, chance: random.Random, near: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        self.frozen_up = self.frozen_down = False
        self.ended = asyncio.Event()
        self._ways: list[asyncio.Task[None]] = []
        self._proxy = proxy
        self._chance = chance
        self._near = near
        self._far = far
        faults = proxy.faults
        self._left_bytes = None if faults.drop_after_bytes is None else chance.randint(*faults.drop_after_bytes)
        self._left_s = None if faults.drop_after_s is None else chance.uniform(*faults.drop_after_s)

    async def run(self, near: asyncio.StreamReader, far: asyncio.StreamReader) -> None:
        """Forwards both ways until one side ends, or it is dropped."""
        ways = (self._forward(near, self._far, up=True), self._forward(far, self._near, up=False))
        self._ways = [asyncio.create_task(way) for way in ways]
        await asyncio.wait(self._ways, timeout=self._left_s, return_when=asyncio.FIRST_COMPLETED)
        self.reset()
        await asyncio.gather(*self._ways, return_exceptions=True)
        self.ended.set()

    def reset(self) -> None:
        """Ends it without a farewell."""
        for way in self._ways:
            way.cancel()
        self._near.transport.abort()
        self._far.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool) -> None:
        while piece := await reader.read(PIECE_BYTES):
            await self._hold_back(len(piece))
            if self.frozen_up if up else self.frozen_down:
                continue
            if not self._count(len(piece), up=up):
                return
            writer.write(piece)
            await writer.drain()

    async def _hold_back(self, size_bytes: int) -> None:
        faults = self._proxy.faults
        held_s = self._chance.uniform(*faults.delay_s)
        if faults.rate_bytes_per_s is not None:
            held_s += size_bytes / faults.rate_bytes_per_s
        await asyncio.sleep(held_s)

    def _count(self, size_bytes: int, *, up: bool) -> bool:
        """Books a piece; False if the connection does not live to see it."""
        if self._left_bytes is not None:
            self._left_bytes -= size_bytes
            if self._left_bytes < 0:
                return False
        if up:
            self._proxy.bytes_up += size_bytes
        else:
            self._proxy.bytes_down += size_bytes
        return True


@contextmanager
def proxy(target: tuple[str, int], faults: Faults | None = None, *, seed: int = 0) -> Iterator[Proxy]:
    """A proxy in front of `target`, gone at the end."""
    one = Proxy(target, faults, seed=seed)
    one.start()
    try:
        yield one
    finally:
        one.close()
