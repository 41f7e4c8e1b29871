"""Rollouts on disk, in `rollouts.db` of the fleet folder; the enrolment service and the command line both open it.

The service calls `RolloutDesk`: `release_for` where a board asks for orders, `take_report` where it says how one went.
"""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from coordinator.enrolment import rollout as r
from edge_agent.wire.database import Database
from edge_agent.wire.errors import ConfigError, EnrolmentError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.updates import Facts, Kind, ReleaseOrder, UpdateReport

T = TypeVar("T")

KINDS: tuple[Kind, ...] = ("agent", "pack")
"""In this order a board gets what is for it: a pack may need the newer agent."""
_UNFINISHED = ("running", "paused")
_REMEDY = "to forget all rollouts, stop the coordinator and delete it"


class Entry(msgspec.Struct, frozen=True):
    """A rollout and its number."""

    number: int
    rollout: r.Rollout


class Board(msgspec.Struct, frozen=True):
    """What a board that asked for orders runs, and when it asked last (Unix time)."""

    device: str
    facts: Facts
    asked_s: float


@dataclass(frozen=True)
class RolloutDesk:
    """The enrolment service's way in: raw requests, each answered by the thread that asks. `path` is the database."""

    path: Path

    def release_for(self, device: str, said: Mapping[str, str]) -> ReleaseOrder | None:
        """The order for `device`, which said in its question what it runs; None where it did not say it.

        Raises:
            EnrolmentError: what it said are no facts.
            StoreError: the database cannot be used.
        """
        if not said:
            return None
        facts = _read(lambda: msgspec.convert(dict(said), Facts), "a question for orders")
        with closing(RolloutStore(self.path)) as store:
            return store.release_for(device, facts)

    def take_report(self, device: str, report: bytes) -> None:
        """Notes a report (JSON). Raises EnrolmentError as `RolloutStore.take_report`, or if it is none; StoreError."""
        told = _read(lambda: msgspec.json.decode(report, type=UpdateReport), "a report on a release")
        with closing(RolloutStore(self.path)) as store:
            store.take_report(device, told)


class RolloutStore(Database):
    """All rollouts of a fleet. Of each kind only the newest is in force."""

    schema = """
        CREATE TABLE rollouts (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, state BLOB NOT NULL);
        CREATE TABLE boards (device TEXT PRIMARY KEY, facts BLOB NOT NULL, asked_s REAL NOT NULL) WITHOUT ROWID;
        CREATE TABLE clock (latest_s REAL NOT NULL);
        INSERT INTO clock VALUES (0);
    """

    def __init__(self, path: Path, clock: Callable[[], float] | None = None) -> None:
        """Opens or makes `path`; `clock` gives Unix time. Raises as `Database`."""
        super().__init__(path)
        self._clock = clock or _unix_time_s

    def start(self, release: r.Release, terms: r.Terms, groups: tuple[tuple[str, ...], ...]) -> Entry:
        """Begins a rollout.

        Raises:
            ConfigError: one of the same kind is not finished.
        """
        with self._transaction() as db:
            now_s = self._now_s(db)
            current = self._newest(db, release.kind)
            if current is not None and (entry := self._ticked(db, current, now_s)).rollout.phase in _UNFINISHED:
                raise ConfigError(
                    f"rollout {entry.number} is {entry.rollout.phase}: wait for its end, or stop it first"
                )
            rollout = r.start(release, terms, groups, now_s)
            cursor = db.execute("INSERT INTO rollouts (kind, state) VALUES (?, ?)", (release.kind, _encode(rollout)))
            return Entry(int(cursor.lastrowid or 0), rollout)

    def release_for(self, device: str, facts: Facts) -> ReleaseOrder | None:
        """What `device` is to install, or to leave; None where nothing is for it now."""
        with self._transaction() as db:
            now_s = self._now_s(db)
            row = (device, msgspec.msgpack.encode(facts), now_s)
            db.execute("INSERT OR REPLACE INTO boards VALUES (?, ?, ?)", row)
            for entry in filter(None, (self._newest(db, kind) for kind in KINDS)):
                rollout, order = r.ask(entry.rollout, entry.number, device, facts, now_s)
                self._save(db, entry, rollout)
                if order is not None:
                    return order
        return None

    def take_report(self, device: str, report: UpdateReport) -> None:
        """Notes how an order went; the same report may come again.

        Raises:
            EnrolmentError: it is of a rollout or a release that never was.
        """
        with self._transaction() as db:
            now_s = self._now_s(db)
            entry = self._load(db, report.rollout)
            if entry is None or report.release not in {bundle.name for bundle in entry.rollout.release.bundles}:
                raise EnrolmentError(
                    f"{report.release} was never rolled out as number {report.rollout}: ask for orders"
                )
            rollout = r.report(entry.rollout, device, report.outcome, report.reason, now_s)
            self._save(db, entry, r.tick(rollout, now_s))

    def change(self, number: int, change: Callable[[r.Rollout, float], r.Rollout]) -> Entry:
        """Lets the operator's `change` (pause, resume, stop, order_return) act on a rollout.

        Raises:
            ConfigError: there is no such rollout, it was followed by another one, or `change` does not fit its phase.
        """
        with self._transaction() as db:
            now_s = self._now_s(db)
            entry = self._load(db, number)
            if entry is None:
                raise ConfigError(f"there is no rollout {number}: see `rankfleet coordinator update status`")
            newest = self._newest(db, entry.rollout.release.kind)
            if newest is not None and newest.number != number:
                raise ConfigError(f"rollout {number} was followed by {newest.number}, which is in force now")
            return self._save(db, entry, change(r.tick(entry.rollout, now_s), now_s))

    def entries(self) -> list[Entry]:
        """All rollouts as they are now, the newest first."""
        with self._transaction() as db:
            now_s = self._now_s(db)
            numbers = [
                number for (number,) in db.execute("SELECT number FROM rollouts ORDER BY number DESC").fetchall()
            ]
            loaded = [entry for number in numbers if (entry := self._load(db, number)) is not None]
            return [self._ticked(db, entry, now_s) for entry in loaded]

    def boards(self, within_s: float = math.inf) -> list[Board]:
        """The boards that have asked for orders within so many seconds, by name."""
        since_s = self._clock() - within_s
        query = "SELECT device, CAST(facts AS BLOB), asked_s FROM boards WHERE asked_s >= ? ORDER BY device"
        return [
            Board(device, self.read(facts, Facts, f"what {device} runs", _REMEDY), asked_s)
            for device, facts, asked_s in self._all(query, since_s)
        ]

    def _now_s(self, db: sqlite3.Connection) -> float:
        """Never earlier than before, or a clock that was set back would make a soak time of days."""
        db.execute("UPDATE clock SET latest_s = MAX(latest_s, ?)", (self._clock(),))
        (now_s,) = db.execute("SELECT latest_s FROM clock").fetchone()
        return float(now_s)

    def _newest(self, db: sqlite3.Connection, kind: Kind) -> Entry | None:
        row = db.execute("SELECT MAX(number) FROM rollouts WHERE kind = ?", (kind,)).fetchone()
        return None if row[0] is None else self._load(db, row[0])

    def _load(self, db: sqlite3.Connection, number: int) -> Entry | None:
        row = db.execute("SELECT CAST(state AS BLOB) FROM rollouts WHERE number = ?", (number,)).fetchone()
        return None if row is None else Entry(number, self.read(row[0], r.Rollout, f"rollout {number}", _REMEDY))

    def _ticked(self, db: sqlite3.Connection, entry: Entry, now_s: float) -> Entry:
        return self._save(db, entry, r.tick(entry.rollout, now_s))

    def _save(self, db: sqlite3.Connection, entry: Entry, rollout: r.Rollout) -> Entry:
        if rollout != entry.rollout:
            db.execute("UPDATE rollouts SET state = ? WHERE number = ?", (_encode(rollout), entry.number))
        return Entry(entry.number, rollout)


def _read(decode: Callable[[], T], what: str) -> T:
    try:
        return decode()
    except MALFORMED as error:
        raise EnrolmentError(f"expected {what}: {error}; update the board, or the gateway") from error


def _encode(rollout: r.Rollout) -> bytes:
    return msgspec.msgpack.encode(rollout)


def _unix_time_s() -> float:
    """The wall clock: soak times go on while the gateway is off."""
    return time.time()
