"""What the agent must not lose, in one SQLite database: identity, model state, residual, outbox.

The trainer process writes the new state, the residual and the update in one transaction, so they stand or fall
together; the supervisor reads the update for sending. Blobs are opaque here (see `wire.state`, `wire.codec`).
"""

from __future__ import annotations

from typing import NamedTuple

from edge_agent.wire import crash_points
from edge_agent.wire.crash_points import Point
from edge_agent.wire.database import Database

_SCHEMA = """
CREATE TABLE model (
    only INTEGER PRIMARY KEY CHECK (only = 0), version INTEGER NOT NULL, state BLOB NOT NULL, residual BLOB NOT NULL
);
CREATE TABLE outbox (
    only INTEGER PRIMARY KEY CHECK (only = 0), round INTEGER NOT NULL, sha256 BLOB NOT NULL, body BLOB NOT NULL,
    report BLOB NOT NULL
);
"""


class Model(NamedTuple):
    """The model state on disk: `state` and `residual` as encoded bytes."""

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

    def forget_fleet(self) -> None:
        """Drops the model and the outbox: the agent joins a fleet with other terms."""
        with self._transaction() as db:
            db.execute("DELETE FROM model")
            db.execute("DELETE FROM outbox")
            db.execute("DELETE FROM meta WHERE key != 'boot'")

    def model(self) -> Model | None:
        """The model state, or None where the seed state still holds."""
        row = self._one("SELECT version, state, residual FROM model")
        return None if row is None else Model(*row)

    def version(self) -> int:
        """Version of the model state; 0 is the seed state."""
        row = self._one("SELECT version FROM model")
        return 0 if row is None else row[0]

    def keep_model(self, model: Model) -> None:
        """Replaces the model state."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO model VALUES (0, ?, ?, ?)", model)

    def keep_round(self, model: Model, outgoing: Outgoing) -> None:
        """Replaces the model state and the update to send, together."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO model VALUES (0, ?, ?, ?)", model)
            db.execute("INSERT OR REPLACE INTO outbox VALUES (0, ?, ?, ?, ?)", outgoing)
            crash_points.reach(Point.TRAINER_COMMITTING)

    def outgoing(self) -> Outgoing | None:
        """The update that waits to be sent, if any."""
        row = self._one("SELECT round, sha256, body, report FROM outbox")
        return None if row is None else Outgoing(*row)

    def settle(self, number: int) -> None:
        """Drops the update of round `number`: the coordinator has it, or will never take it."""
        with self._transaction() as db:
            db.execute("DELETE FROM outbox WHERE round = ?", (number,))
