"""The other end of the coordinator's pipe: starts its process, feeds it time and messages, and kills it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

import msgspec

from edge_agent.wire import crash_points, link
from edge_agent.wire.errors import RankfleetError

from .agenda import Agenda
from .faults import Fault, Faults
from .host import Answer, FromHost, Heard, Spool, Start, serve
from .network import FaultyLink
from .settings import DEADLINE_S, Settings

Point = crash_points.Point
MOMENT_S = 0.25
"""How often the coordinator looks at what came: as on a board that is busy, where messages wait together."""
_ONCE_A_ROUND = (
    Point.COORDINATOR_CLOSING,
    Point.COORDINATOR_AGGREGATED,
    Point.COORDINATOR_COMMITTING,
    Point.COORDINATOR_CLOSED,
)
_ONCE_A_DEVICE = (
    Point.COORDINATOR_PLAN_KEPT,
    Point.COORDINATOR_PLAN_SENT,
    Point.COORDINATOR_OFFER_HEARD,
    Point.COORDINATOR_UPDATE_CHECKED,
    Point.COORDINATOR_UPDATE_STORED,
    Point.COORDINATOR_ACKNOWLEDGED,
)
_JOIN_S = 30.0


class Gateway:
    """One life of the coordinator after another."""

    def __init__(self, agenda: Agenda, faults: Faults) -> None:
        self.lives = 0
        self._agenda = agenda
        self._faults = faults
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None
        self._spool: Spool | None = None
        self._listens_left: int | None = None
        self._crashing = False
        """Whether it was told to die in the middle of a step."""

    def start(self, start: Start, settings: Settings, closed: int) -> None:
        """Starts a coordinator after `closed` rounds. It lives for some rounds, or for good after the last stop.

        How it dies is drawn: while it listens, or at one of the named points in the middle of a step.
        """
        self.lives += 1
        ours, theirs = multiprocessing.Pipe()
        self._pipe, self._listens_left = ours, None
        random, crash, (first, last) = self._faults.random, None, settings.stops
        rounds = max(0, first - closed) + random.randint(*settings.rounds_between_stops)
        if closed + rounds <= last:
            share = rounds - random.random()
            if random.random() < 0.5:
                self._listens_left = round(share * DEADLINE_S / MOMENT_S)
            else:
                point = random.choice(_ONCE_A_ROUND + _ONCE_A_DEVICE)
                occasion = rounds if point in _ONCE_A_ROUND else max(1, round(share * settings.devices))
                crash = crash_points.Crash(point, occasion, start.config.run_dir / f"life-{self.lives}")
        self._crashing = crash is not None
        self._spool = Spool(start.spool)
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs, start), daemon=True)
        with _dying(crash):
            self._process.start()
        theirs.close()

    def hear(self) -> tuple[list[FromHost], bool]:
        """What the coordinator has said until it listens, or dies; whether it listens."""
        assert self._pipe is not None and self._spool is not None
        try:
            self._pipe.recv_bytes()
        except (EOFError, ConnectionError):
            said = self._spool.take()
            self._ended()
            return said, False
        said = self._spool.take()
        if self._listens_left is not None:
            self._listens_left -= 1
            if self._listens_left <= 0:
                self._faults.note(Fault.STOPPED)
                self.stop()
                return said, False
        return said, True

    def _ended(self) -> None:
        """The process died by itself: as it was told to, or because something is wrong with it."""
        assert self._process is not None
        self._process.join(_JOIN_S)
        status, process = self._process.exitcode, self._process.pid
        self.stop()
        if not self._crashing or status != -signal.SIGKILL:
            raise RankfleetError(
                f"the coordinator's process {process} ended with exit status {status}, which nobody asked it to: "
                "what it says of that is above"
            )
        self._faults.note(Fault.CRASHED)

    def answer(self, wire: FaultyLink) -> None:
        """What came on `wire` within the next moment of simulated time, if anything."""
        self._agenda.run_until(self._agenda.now_s + MOMENT_S)
        heard = []
        while (event := wire.receive(0)) is not None:
            heard.append(_heard(event))
        assert self._pipe is not None
        self._pipe.send_bytes(msgspec.msgpack.encode(Answer(self._agenda.now_s, heard)))

    def stop(self) -> None:
        """The process ends without warning, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.join(_JOIN_S)
            self._process = None
        for one in (self._pipe, self._spool):
            if one is not None:
                one.close()
        self._pipe = self._spool = None


def _heard(event: link.Event) -> Heard:
    if isinstance(event, link.Received):
        return Heard("message", event.topic, event.payload)
    return Heard("connected" if isinstance(event, link.Connected) else "disconnected")


@contextmanager
def _dying(crash: crash_points.Crash | None) -> Iterator[None]:
    """A process that is started in here dies as `crash` says."""
    variables = {} if crash is None else crash_points.environment(crash)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
