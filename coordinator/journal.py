"""What happened in a run and how far each device is, for whoever watches: a database beside the coordinator's own.

Nothing depends on it. It is written in a thread of its own, every few seconds, so that no round waits for it; where it
cannot be written that is logged, and the run goes on without.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import msgspec

from coordinator import events
from edge_agent.wire.database import Database
from edge_agent.wire.errors import StoreError

LOGGER = logging.getLogger("rankfleet.coordinator")
FILE = "journal.db"
WRITE_EVERY_S = 2.0
KEPT_LINES = 20_000
WAITING_LINES = 10_000
"""As many wait for the disk at most."""
_SCHEMA = """
CREATE TABLE line (
    number INTEGER PRIMARY KEY, date_s REAL NOT NULL, event TEXT NOT NULL, device TEXT NOT NULL, round INTEGER,
    text TEXT NOT NULL
);
CREATE INDEX line_device ON line (device);
CREATE TABLE progress (
    device TEXT PRIMARY KEY, date_s REAL NOT NULL, round INTEGER NOT NULL, phase TEXT NOT NULL, step INTEGER NOT NULL,
    steps INTEGER NOT NULL, loss REAL, temperature_c REAL
) WITHOUT ROWID;
"""
_LINE = "date_s, event, device, round, text"


class Line(NamedTuple):
    """Something that happened: `date_s` in seconds since 1970, `event` the tag of the event's class in `events`,
    `device` empty where it concerns the fleet."""

    date_s: float
    event: str
    device: str
    round: int | None
    text: str


class Step(NamedTuple):
    """How far a device was when it last said so."""

    device: str
    date_s: float
    round: int
    phase: str
    step: int
    steps: int
    loss: float | None
    temperature_c: float | None


class Journal(Database):
    """The database."""

    schema = _SCHEMA

    def write(self, lines: list[Line], steps: list[Step]) -> None:
        """Adds `lines`, of which the last ones are kept, and replaces what is known of the devices in `steps`."""
        with self._transaction() as db:
            db.executemany(f"INSERT INTO line ({_LINE}) VALUES (?, ?, ?, ?, ?)", lines)
            db.execute("DELETE FROM line WHERE number <= (SELECT max(number) FROM line) - ?", (KEPT_LINES,))
            db.executemany("INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?, ?, ?, ?, ?)", steps)

    def lines(self, most: int, device: str | None = None) -> list[Line]:
        """The last lines, of one device or of all, the newest first."""
        where, of = ("", ()) if device is None else ("WHERE device = ?", (device,))
        return [
            Line(*row) for row in self._all(f"SELECT {_LINE} FROM line {where} ORDER BY number DESC LIMIT ?", *of, most)
        ]

    def of_round(self, number: int, event: str) -> list[Line]:
        """The lines of one kind about round `number`, the oldest first."""
        query = f"SELECT {_LINE} FROM line WHERE event = ? AND round = ? ORDER BY number"
        return [Line(*row) for row in self._all(query, event, number)]

    def last(self, event: str) -> Line | None:
        """The newest line of one kind."""
        row = self._one(f"SELECT {_LINE} FROM line WHERE event = ? ORDER BY number DESC LIMIT 1", event)
        return None if row is None else Line(*row)

    def steps(self) -> dict[str, Step]:
        """How far the devices are."""
        return {row[0]: Step(*row) for row in self._all("SELECT * FROM progress")}


class Recorder:
    """Hands every event on to `watch`, and keeps it for the journal at `path`."""

    def __init__(self, path: Path, watch: events.Watch, now: Callable[[], datetime] | None = None) -> None:
        self._path = path
        self._watch = watch
        self._now = now or (lambda: datetime.now(timezone.utc))
        self._lock = threading.Lock()
        self._lines: deque[Line] = deque(maxlen=WAITING_LINES)
        self._steps: dict[str, Step] = {}
        self._failed = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def __call__(self, event: events.Watched) -> None:
        """An event, as `events.Watch`."""
        date_s = self._now().timestamp()
        with self._lock:
            if isinstance(event, events.Training):
                self._steps[event.device] = Step(
                    event.device, date_s, event.round, event.phase, event.step, event.steps, event.loss,
                    event.temperature_c,
                )  # fmt: skip
            else:
                self._lines.append(line_of(event, date_s))
        self._watch(event)

    def close(self) -> None:
        """Writes what waits, and ends."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        journal: Journal | None = None
        while True:
            ending = self._end.wait(WRITE_EVERY_S)
            journal = self._flush(journal)
            if ending:
                break
        if journal is not None:
            journal.close()

    def _flush(self, journal: Journal | None) -> Journal | None:
        with self._lock:
            lines, steps = list(self._lines), list(self._steps.values())
            self._lines.clear()
            self._steps.clear()
        if not lines and not steps:
            return journal
        try:
            journal = journal or Journal(self._path)
            journal.write(lines, steps)
        except StoreError as error:
            if not self._failed:
                LOGGER.warning("the journal is not kept, the run goes on without it: %s", error)
            self._failed = True
        else:
            self._failed = False
        return journal


def line_of(event: events.Watched, date_s: float) -> Line:
    """What the journal keeps of an event: figures of rounds and reports are in the coordinator's own database."""
    tag = str(type(event).__struct_config__.tag)
    device = str(getattr(event, "device", ""))
    number = getattr(event, "round", None)
    if isinstance(event, events.Closed):
        number = event.record.round
    return Line(date_s, tag, device, number, _text(event))


def _text(event: events.Watched) -> str:
    if isinstance(event, events.Objective):
        return msgspec.json.encode([event.name, event.met, event.value, event.bound]).decode()
    return str(getattr(event, "reason", ""))
