"""The coordinator of a soak: the real one, in a process of its own, so that its memory is its own.

Its clock and its link are with `gateway`: whenever it listens, it is told over a pipe what time it is and what came.
What it says lies in a file, `Spool`, as soon as it is said: what was sent before the process dies was sent.
"""

from __future__ import annotations

import gc
import logging
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from coordinator import events
from coordinator.config import CoordinatorConfig
from coordinator.desk import Desk
from coordinator.objects import Objects
from coordinator.plans import Planner, fleet_layout
from coordinator.recovery import mend
from coordinator.run import DATABASE
from coordinator.server import Coordinator
from coordinator.store import Store
from edge_agent import memory
from edge_agent.wire import link

LISTENS = b"l"
"""On the pipe: it has dealt with all that came, and waits for more, and for the time."""
_LENGTH_BYTES = 4
MakeStore = Callable[[Path], Store]


class Published(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """The coordinator sends a message."""

    topic: str
    payload: bytes


class Told(msgspec.Struct, frozen=True, tag="t", array_like=True):
    """It told whoever watches; the event as JSON."""

    event: bytes


class Used(msgspec.Struct, frozen=True, tag="u", array_like=True):
    """What it took: processor time since the round before closed, anonymous memory now that the round is closed."""

    round: int
    cpu_s: float
    anonymous_bytes: int


class Over(msgspec.Struct, frozen=True, tag="o", array_like=True):
    """The run is over; these devices did not confirm the final model."""

    missing: tuple[str, ...]


FromHost = Published | Told | Used | Over


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """A change of the connection, or a message of a topic."""

    kind: Literal["connected", "disconnected", "message"]
    topic: str = ""
    payload: bytes = b""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What time it is, and what came, in order."""

    now_s: float
    heard: list[Heard]


class Start(NamedTuple):
    """What a coordinator is started with."""

    config: CoordinatorConfig
    spool: Path
    max_payload_bytes: int
    now_s: float
    store: MakeStore = Store


class Spool:
    """What the coordinator says, in order, in a file: whoever reads it takes all of it away, while the other waits.

    A write to a file wakes nobody, so the two processes change places only where one has nothing more to do.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._decoder = msgspec.msgpack.Decoder(FromHost)

    def put(self, message: FromHost) -> None:
        """Appends a message."""
        body = msgspec.msgpack.encode(message)
        self._file.write(len(body).to_bytes(_LENGTH_BYTES, "little") + body)

    def take(self) -> list[FromHost]:
        """All messages, which are there no longer. What a process that died has begun to write is left out."""
        self._file.seek(0)
        data = self._file.read()
        self._file.truncate(0)
        found, at = [], 0
        while (start := at + _LENGTH_BYTES) <= len(data):
            at = start + int.from_bytes(data[at:start], "little")
            if at <= len(data):
                found.append(self._decoder.decode(data[start:at]))
        return found

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def serve(pipe: Connection, start: Start) -> None:
    """Runs a coordinator until its run is over, or nobody is at the other end of the pipe any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted soak closes the pipe
    logging.getLogger("rankfleet").setLevel(logging.ERROR)  # refusals are told as events too
    wire = _Wire(pipe, start)
    try:
        missing = _run(wire, start)
    except (EOFError, ConnectionError):
        return
    wire.tell(Over(missing))
    pipe.send_bytes(LISTENS)


def _run(wire: _Wire, start: Start) -> tuple[str, ...]:
    """As `coordinator.run`, with this link and clock."""
    config, watch = start.config, _Watch(wire)
    store = start.store(config.run_dir / DATABASE)  # closed with the process, as after a power cut
    objects = Objects(config.pack, store)
    mended = mend(store, fleet_layout(config), config.seed)
    if mended is not None:
        watch.tell(mended)
    planner = Planner(config, objects, store.run_id())
    desk = Desk(config.fleet, store, objects, wire)
    return Coordinator(config, store, desk, planner, wire, watch.tell, clock=wire.clock).run()


class _Wire:
    """The link and the clock of the coordinator."""

    def __init__(self, pipe: Connection, start: Start) -> None:
        self.max_payload_bytes = start.max_payload_bytes
        self._pipe = pipe
        self._spool = Spool(start.spool)
        self._now_s = start.now_s
        self._inbox: deque[Heard] = deque()
        self._decoder = msgspec.msgpack.Decoder(Answer)

    def clock(self) -> float:
        """Simulated monotonic seconds."""
        return self._now_s

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Sends a message; without a connection it is lost, which a real link too may find out late."""
        self._spool.put(Published(topic, payload))
        return True

    def receive(self, timeout_s: float) -> link.Event | None:
        """What comes next. Raises EOFError or ConnectionError where nobody is there any more."""
        if not self._inbox:
            self._pipe.send_bytes(LISTENS)
            answer = self._decoder.decode(self._pipe.recv_bytes())
            self._now_s = answer.now_s
            self._inbox.extend(answer.heard)
        return _event(self._inbox.popleft()) if self._inbox else None

    def tell(self, message: FromHost) -> None:
        """Says something of the coordinator that is not for its devices."""
        self._spool.put(message)

    def traffic(self) -> None:
        """Nobody counts it here."""

    def close(self) -> None:
        """The pipe ends with the process."""


def _event(heard: Heard) -> link.Event:
    if heard.kind == "message":
        return link.Received(heard.topic, heard.payload)
    return link.Connected(False) if heard.kind == "connected" else link.Disconnected("cut", fatal=False)


class _Watch:
    """Tells what the coordinator tells, and what a round took."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._since_s = time.process_time()

    def tell(self, event: events.Watched) -> None:
        """Passes an event on; where a round closed, also what it took."""
        self._wire.tell(Told(msgspec.json.encode(event)))
        if isinstance(event, events.Closed):
            cpu_s = time.process_time() - self._since_s
            gc.collect()
            memory.give_back()
            self._wire.tell(Used(event.record.round, cpu_s, memory.own().anonymous_bytes))
            self._since_s = time.process_time()
