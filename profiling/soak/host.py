"""The coordinator of a soak: the real one, in a process of its own, so that its memory is its own.

Its clock and its link are at the other end of a pipe (see `gateway`): whenever it listens, the soak says what time it
is and what came. Each message on the pipe is a tuple in MessagePack; nothing is held back, so what was sent before the
process dies was sent.
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

MakeStore = Callable[[Path], Store]


class Published(msgspec.Struct, frozen=True, tag="p", array_like=True):
    """The coordinator sends a message."""

    topic: str
    payload: bytes


class Listens(msgspec.Struct, frozen=True, tag="l", array_like=True):
    """It has dealt with all that came, and waits for more, and for the time."""


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


FromHost = Published | Listens | Told | Used | Over


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
    max_payload_bytes: int
    now_s: float
    store: MakeStore = Store


def serve(pipe: Connection, start: Start) -> None:
    """Runs a coordinator until its run is over, or nobody is at the other end of the pipe any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupted soak closes the pipe
    logging.getLogger("rankfleet").setLevel(logging.ERROR)  # refusals are told as events too
    try:
        missing = _run(_Wire(pipe, start.max_payload_bytes, start.now_s), start)
        _say(pipe, Over(missing))
    except EOFError:
        return


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

    def __init__(self, pipe: Connection, max_payload_bytes: int, now_s: float) -> None:
        self.max_payload_bytes = max_payload_bytes
        self._pipe = pipe
        self._now_s = now_s
        self._inbox: deque[Heard] = deque()
        self._decoder = msgspec.msgpack.Decoder(Answer)

    def clock(self) -> float:
        """Simulated monotonic seconds."""
        return self._now_s

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Sends a message; without a connection it is lost, which a real link too may find out late."""
        _say(self._pipe, Published(topic, payload))
        return True

    def receive(self, timeout_s: float) -> link.Event | None:
        """What comes next. Raises EOFError where nobody is there any more."""
        if not self._inbox:
            _say(self._pipe, Listens())
            answer = self._decoder.decode(self._pipe.recv_bytes())
            self._now_s = answer.now_s
            self._inbox.extend(answer.heard)
        return _event(self._inbox.popleft()) if self._inbox else None

    def tell(self, message: FromHost) -> None:
        """Says something of the coordinator that is not for its devices."""
        _say(self._pipe, message)

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


def _say(pipe: Connection, message: FromHost) -> None:
    try:
        pipe.send_bytes(msgspec.msgpack.encode(message))
    except OSError as error:
        raise EOFError from error
