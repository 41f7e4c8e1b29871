"""What the coordinator must not lose, in one SQLite database.

A round is a transaction: the new model state, the residual, the delta, the round's record and the end of its updates
are written together. An update is acknowledged only after it was written here. The last checkpoints are kept: should
the newest be damaged, `recovery` makes it again from the one before. Blobs are opaque (see `wire.state` and
`wire.codec`).
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from typing import NamedTuple

from edge_agent.wire import crash_points
from edge_agent.wire.crash_points import Point
from edge_agent.wire.database import Database
from edge_agent.wire.errors import StoreError

_SCHEMA = """
CREATE TABLE device (
    name TEXT PRIMARY KEY, boot INTEGER NOT NULL, sequence INTEGER NOT NULL, online INTEGER NOT NULL,
    ready BLOB, note TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE checkpoint (
    version INTEGER PRIMARY KEY, state BLOB NOT NULL, residual BLOB NOT NULL, scores BLOB NOT NULL
);
CREATE TABLE delta (version INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE plan (round INTEGER NOT NULL, device TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (round, device));
CREATE TABLE contribution (
    round INTEGER NOT NULL, device TEXT NOT NULL, sha256 BLOB NOT NULL, report BLOB NOT NULL, body BLOB,
    origin INTEGER NOT NULL,
    PRIMARY KEY (round, device)
);
CREATE TABLE round (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
"""
_CHECKPOINT = "version, CAST(state AS BLOB), CAST(residual AS BLOB), CAST(scores AS BLOB)"
RUN_ID_BYTES = 16
AGAIN = "when the coordinator next starts, or closes the round, it drops it and asks the device again"
CHECKPOINTS = 3
"""How many are kept."""


def _keep_several_checkpoints(db: sqlite3.Connection) -> None:
    """From version 1, which kept one checkpoint, without a checksum on its scores."""
    former = db.execute("SELECT version, state, residual, scores FROM checkpoint").fetchall()
    db.execute("DROP TABLE checkpoint")
    db.execute(
        "CREATE TABLE checkpoint ("
        "version INTEGER PRIMARY KEY, state BLOB NOT NULL, residual BLOB NOT NULL, scores BLOB NOT NULL)"
    )
    for version, state, residual, scores in former:
        sealed = scores + hashlib.sha256(scores).digest()
        db.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?)", (version, state, residual, sealed))


def _add_origin(db: sqlite3.Connection) -> None:
    """From version 2, in which every update counted in the round that it was made for."""
    db.execute("ALTER TABLE contribution ADD COLUMN origin INTEGER NOT NULL DEFAULT 0")
    db.execute("UPDATE contribution SET origin = round")


class Checkpoint(NamedTuple):
    """The fleet's model after `version` rounds; encoded state, residual and importance scores."""

    version: int
    state: bytes
    residual: bytes
    scores: bytes


class DeviceRow(NamedTuple):
    """One device of the roster. `ready` is its last encoded Ready message, `note` its last trouble."""

    name: str
    boot: int
    sequence: int
    online: bool
    ready: bytes | None
    note: str


class Contribution(NamedTuple):
    """One device's update as it counts in one round; `body` is None once the round is closed.

    `origin` is the round that it was made for: an earlier one where it came late.
    """

    device: str
    sha256: bytes
    report: bytes
    body: bytes | None
    origin: int


class Store(Database):
    """The coordinator's database."""

    schema = _SCHEMA
    migrations = (_keep_several_checkpoints, _add_origin)

    def run_id(self) -> bytes:
        """16 random bytes that tell this run from any other, drawn when first asked for."""
        known = self.get("run")
        if known is None:
            known = self.renew_run()
        return known

    def devices(self) -> list[DeviceRow]:
        """The roster, by name."""
        rows = self._all("SELECT name, boot, sequence, online, CAST(ready AS BLOB), note FROM device ORDER BY name")
        return [DeviceRow(name, boot, seq, bool(online), ready, note) for name, boot, seq, online, ready, note in rows]

    def keep_device(self, row: DeviceRow) -> None:
        """Writes one device of the roster."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?, ?, ?)", row)

    def checkpoint(self) -> Checkpoint | None:
        """The last checkpoint, or None before the first round closed."""
        row = self._one(f"SELECT {_CHECKPOINT} FROM checkpoint ORDER BY version DESC")
        return None if row is None else Checkpoint(*row)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that are kept, the newest first."""
        rows = self._all(f"SELECT {_CHECKPOINT} FROM checkpoint ORDER BY version DESC")
        return [Checkpoint(*row) for row in rows]

    def mend(self, checkpoint: Checkpoint) -> None:
        """Makes `checkpoint` the newest. What came of later versions is undone, as if no round had led there.

        Then the run has another name: what a device holds of the rounds that are undone is of no use any more.
        """
        version = checkpoint.version
        with self._transaction() as db:
            (undone,) = db.execute("SELECT count(*) FROM round WHERE number > ?", (version,)).fetchone()
            db.execute("DELETE FROM checkpoint WHERE version >= ?", (version,))
            db.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?)", checkpoint)
            if undone:
                db.execute("DELETE FROM delta WHERE version > ?", (version,))
                for table, column in (("round", "number"), ("contribution", "round"), ("plan", "round")):
                    db.execute(f"DELETE FROM {table} WHERE {column} > ?", (version,))
                db.execute("INSERT OR REPLACE INTO meta VALUES ('run', ?)", (secrets.token_bytes(RUN_ID_BYTES),))

    def keep_plan(self, number: int, device: str, body: bytes) -> None:
        """Writes the plan of one device for round `number`."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO plan VALUES (?, ?, ?)", (number, device, body))

    def plan(self, number: int, device: str) -> bytes | None:
        """The encoded plan of one device for round `number`, if it is still kept."""
        row = self._one("SELECT CAST(body AS BLOB) FROM plan WHERE round = ? AND device = ?", number, device)
        return None if row is None else row[0]

    def plans(self, number: int) -> dict[str, bytes]:
        """Encoded plans of round `number` by device."""
        return dict(self._all("SELECT device, CAST(body AS BLOB) FROM plan WHERE round = ? ORDER BY device", number))

    def keep_contribution(self, number: int, row: Contribution) -> None:
        """Writes an update; a second one of the same device and round replaces nothing.

        Raises:
            StoreError: it could not be written, so it must not be acknowledged.
        """
        with self._transaction() as db:
            db.execute("INSERT OR IGNORE INTO contribution VALUES (?, ?, ?, ?, ?, ?)", (number, *row))

    def holds(self, number: int, device: str, sha256: bytes) -> bool:
        """Whether this update of the device counts, in round `number` that it was made for or a later one."""
        query = "SELECT 1 FROM contribution WHERE round >= ? AND device = ? AND sha256 = ?"
        return self._one(query, number, device, sha256) is not None

    def late(self, number: int) -> dict[str, int]:
        """By how many rounds the updates of round `number` were late that were, by device."""
        query = "SELECT device, round - origin FROM contribution WHERE round = ? AND origin < round ORDER BY device"
        return dict(self._all(query, number))

    def contributors(self, number: int) -> dict[str, tuple[bytes, bytes]]:
        """Sha256 and encoded report of each update of round `number`, by device."""
        columns = "device, CAST(sha256 AS BLOB), CAST(report AS BLOB)"
        query = f"SELECT {columns} FROM contribution WHERE round = ? ORDER BY device"
        return {device: (sha256, report) for device, sha256, report in self._all(query, number)}

    def counted(self, device: str) -> tuple[int, ...]:
        """The closed rounds in which an update of `device` counted."""
        query = "SELECT round FROM contribution WHERE device = ? AND round IN (SELECT number FROM round) ORDER BY round"
        return tuple(number for (number,) in self._all(query, device))

    def reports_by(self, device: str, most: int) -> list[tuple[int, bytes]]:
        """Round and encoded report of the last updates of `device`, the newest first."""
        query = "SELECT round, CAST(report AS BLOB) FROM contribution WHERE device = ? ORDER BY round DESC LIMIT ?"
        return self._all(query, device, most)

    def contribution_body(self, number: int, device: str) -> bytes:
        """The encoded update itself, one at a time, so that memory does not grow with the fleet.

        Raises:
            StoreError: there is none, or it is not what was put there.
        """
        columns = "CAST(sha256 AS BLOB), CAST(body AS BLOB)"
        row = self._one(f"SELECT {columns} FROM contribution WHERE round = ? AND device = ?", number, device)
        if row is None or row[1] is None:
            raise StoreError(f"{self.path} has no update of {device} for round {number}")
        sha256, body = row
        if hashlib.sha256(body).digest() != sha256:
            raise self.damaged(f"the update of {device} for round {number}", "its checksum is another", AGAIN)
        return bytes(body)

    def drop_contribution(self, number: int, device: str) -> None:
        """Drops an update, so that its device can be asked for it again."""
        with self._transaction() as db:
            db.execute("DELETE FROM contribution WHERE round = ? AND device = ?", (number, device))

    def renew_run(self) -> bytes:
        """Gives the run another name: devices drop what they hold of it and begin with its present model."""
        name = secrets.token_bytes(RUN_ID_BYTES)
        self.put(run=name)
        return name

    def close_round(
        self, number: int, checkpoint: Checkpoint, delta: bytes, record: bytes, late_rounds: int = 0
    ) -> None:
        """Writes all that a closed round leaves behind, and drops the bodies of its updates.

        Where the delta is empty, devices come to this version by the snapshot. The plans of the last `late_rounds`
        rounds are kept, for updates that are still taken.
        """
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)", checkpoint)
            db.execute("DELETE FROM checkpoint WHERE version <= ?", (checkpoint.version - CHECKPOINTS,))
            if delta:
                digest = hashlib.sha256(delta).digest()
                db.execute("INSERT OR REPLACE INTO delta VALUES (?, ?, ?)", (checkpoint.version, digest, delta))
            db.execute("INSERT OR REPLACE INTO round VALUES (?, ?)", (number, record))
            db.execute("UPDATE contribution SET body = NULL WHERE round = ?", (number,))
            db.execute("DELETE FROM plan WHERE round <= ?", (number - late_rounds,))
            crash_points.reach(Point.COORDINATOR_COMMITTING)

    def delta_sizes(self, after: int) -> list[tuple[int, bytes, int]]:
        """Version, sha256 and size in bytes of every delta after version `after`, in order."""
        columns = "version, CAST(sha256 AS BLOB), length(body)"
        return self._all(f"SELECT {columns} FROM delta WHERE version > ? ORDER BY version", after)

    def delta_body(self, sha256: bytes) -> bytes | None:
        """The encoded delta with this hash, if there is one. It is nearly always one of the last."""
        query = "SELECT CAST(body AS BLOB) FROM delta WHERE sha256 = ? ORDER BY version DESC LIMIT 1"
        row = self._one(query, sha256)
        return None if row is None else row[0]

    def drop_delta(self, version: int) -> None:
        """Drops the delta that leads to `version`: devices before it get the snapshot."""
        with self._transaction() as db:
            db.execute("DELETE FROM delta WHERE version = ?", (version,))

    def rounds(self, after: int = 0) -> list[tuple[int, bytes]]:
        """Number and record of every closed round after round `after`."""
        query = "SELECT number, CAST(record AS BLOB) FROM round WHERE number > ? ORDER BY number"
        return self._all(query, after)
