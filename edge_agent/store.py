"""What the agent must not lose, in one SQLite database: identity, model state, residual, outbox.

The trainer process writes the new state, the residual and the update in one transaction, so they stand or fall
together, and drops what it kept of the round's training in the same; the supervisor reads the update for sending. Blobs
are opaque here (see `wire.state`, `wire.codec`, `midway`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from edge_agent.wire import crash_points
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point
from edge_agent.wire.database import Database

_MIDWAY = "CREATE TABLE midway (name TEXT PRIMARY KEY, body BLOB NOT NULL)"
_HEAD = ""
"""The name of what is told of the tables; no table has it."""
_SCHEMA = f"""
CREATE TABLE model (
    only INTEGER PRIMARY KEY CHECK (only = 0), version INTEGER NOT NULL, state BLOB NOT NULL, residual BLOB NOT NULL
);
CREATE TABLE outbox (
    only INTEGER PRIMARY KEY CHECK (only = 0), round INTEGER NOT NULL, sha256 BLOB NOT NULL, body BLOB NOT NULL,
    report BLOB NOT NULL, former BLOB NOT NULL
);
{_MIDWAY};
"""


def _add_midway(db: sqlite3.Connection) -> None:
    """From version 1, which kept nothing of a round that was not over."""
    db.execute(_MIDWAY)


def _add_former(db: sqlite3.Connection) -> None:
    """From version 2, which kept no residual to return to: that of an update which waits stays as it is."""
    db.execute("ALTER TABLE outbox ADD COLUMN former BLOB NOT NULL DEFAULT x''")
    db.execute("UPDATE outbox SET former = coalesce((SELECT residual FROM model), x'')")


class Model(NamedTuple):
    """The model state on disk: `state` and `residual` as encoded bytes; a residual of all zeros may be empty."""

    version: int
    state: bytes
    residual: bytes


class Outgoing(NamedTuple):
    """A finished update that waits for the coordinator's acknowledgement."""

    round: int
    sha256: bytes
    body: bytes
    report: bytes


class Store(Database):
    """The agent's database. One process of the agent writes at a time."""

    schema = _SCHEMA
    migrations = (_add_midway, _add_former)

    def forget_fleet(self) -> None:
        """Drops the model, the outbox and what was being trained: the agent joins a fleet with other terms."""
        with self._transaction() as db:
            for table in ("model", "outbox", "midway"):
                db.execute(f"DELETE FROM {table}")
            db.execute("DELETE FROM meta WHERE key != 'boot'")

    def model(self) -> Model | None:
        """The model state, or None where the seed state still holds."""
        row = self._one("SELECT version, CAST(state AS BLOB), CAST(residual AS BLOB) FROM model")
        return None if row is None else Model(*row)

    def forget_model(self) -> None:
        """Drops the model state and all that was made from it; the terms of the fleet stay."""
        with self._transaction() as db:
            for table in ("model", "outbox", "midway"):
                db.execute(f"DELETE FROM {table}")

    def version(self) -> int:
        """Version of the model state; 0 is the seed state."""
        row = self._one("SELECT version FROM model")
        return 0 if row is None else row[0]

    def keep_model(self, model: Model) -> None:
        """Replaces the model state; what was being trained started from another."""
        with self._transaction() as db:
            db.execute("DELETE FROM midway")
            db.execute("INSERT OR REPLACE INTO model VALUES (0, ?, ?, ?)", model)

    def keep_round(self, model: Model, outgoing: Outgoing) -> None:
        """Replaces the model state and the update to send, together; its training is over.

        The residual from before is kept until it is known what becomes of the update.
        """
        with self._transaction() as db:
            db.execute("DELETE FROM midway")
            former = "coalesce((SELECT residual FROM model), x'')"
            db.execute(f"INSERT OR REPLACE INTO outbox VALUES (0, ?, ?, ?, ?, {former})", outgoing)
            db.execute("INSERT OR REPLACE INTO model VALUES (0, ?, ?, ?)", model)
            crash_points.reach(Point.TRAINER_COMMITTING)

    def keep_midway(self, head: bytes, tables: Iterable[tuple[str, bytes]]) -> None:
        """Replaces what is kept of a round's training; `tables` are written one by one, in one transaction."""
        with self._transaction() as db:
            db.execute("DELETE FROM midway")
            db.execute("INSERT INTO midway VALUES (?, ?)", (_HEAD, head))
            for row in tables:
                db.execute("INSERT INTO midway VALUES (?, ?)", row)

    def midway(self) -> bytes | None:
        """What was told of the tables that are kept of a round's training, if any are."""
        row = self._one("SELECT CAST(body AS BLOB) FROM midway WHERE name = ?", _HEAD)
        return None if row is None else row[0]

    def midway_table(self, name: str) -> bytes:
        """One of these tables; empty if there is none of this name."""
        row = self._one("SELECT CAST(body AS BLOB) FROM midway WHERE name = ?", name)
        return b"" if row is None else row[0]

    def outgoing(self) -> Outgoing | None:
        """The update that waits to be sent, if any."""
        columns = "round, CAST(sha256 AS BLOB), CAST(body AS BLOB), CAST(report AS BLOB)"
        row = self._one(f"SELECT {columns} FROM outbox")
        return None if row is None else Outgoing(*row)

    def report_of(self, outgoing: Outgoing) -> m.RoundReport:
        """The report on the update that waits.

        Raises:
            StoreError: the report, or the update itself, is not what was put there.
        """
        what, remedy = "the update that waits to be sent", "it is dropped, and its round trained again if still open"
        if not isinstance(outgoing.round, int) or hashlib.sha256(outgoing.body).digest() != outgoing.sha256:
            raise self.damaged(what, "its checksum is another", remedy)
        return self.read(outgoing.report, m.RoundReport, what, remedy)

    def settle(self, number: int) -> None:
        """Drops the update of round `number`: the coordinator has it."""
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE round = ?", (number,))

    def discard(self, number: int) -> None:
        """Drops the update of round `number`, which the coordinator never took, and what it did to the residual."""
        with self._transaction() as db:
            waits = "EXISTS (SELECT 1 FROM outbox WHERE round = ?)"
            db.execute(f"UPDATE model SET residual = (SELECT former FROM outbox) WHERE {waits}", (number,))
            db.execute("DELETE FROM outbox WHERE round = ?", (number,))
