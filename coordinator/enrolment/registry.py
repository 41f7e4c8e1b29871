"""What a fleet knows of its boards, in one SQLite database: tokens, requests, devices, certificates, pre-approved
names, what boards report, and an audit trail.

The command line and the enrolment service open it at the same time: whoever decides something reads and writes in one
`change`, a transaction. Of a token only its SHA-256 is kept. Dates are whole seconds since 1970, UTC.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

from edge_agent.wire.database import Database

RequestState = Literal["pending", "approved", "rejected"]
CertificateState = Literal["issued", "current", "revoked"]
"""`issued`: signed, and not seen in use yet. `current`: seen in use."""

_SCHEMA = """
CREATE TABLE token (
    sha256 BLOB PRIMARY KEY, device TEXT, expires_s INTEGER NOT NULL, request TEXT
) WITHOUT ROWID;
CREATE TABLE request (
    id TEXT PRIMARY KEY, device TEXT NOT NULL, pem BLOB NOT NULL, fingerprint TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL, certificate BLOB, date_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX request_device ON request (device);
CREATE TABLE device (
    name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, revoked INTEGER NOT NULL, rotate_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE certificate (
    serial TEXT PRIMARY KEY, device TEXT NOT NULL, fingerprint TEXT NOT NULL, issued_s INTEGER NOT NULL,
    not_after_s INTEGER NOT NULL, state TEXT NOT NULL, pem BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX certificate_device ON certificate (device);
CREATE INDEX certificate_state ON certificate (state);
CREATE TABLE preapproved (device TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE report (device TEXT PRIMARY KEY, date_s INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE audit (
    number INTEGER PRIMARY KEY, date_s INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
"""
_TOKEN = "CAST(sha256 AS BLOB), device, expires_s, request"
_REQUEST = "id, device, CAST(pem AS BLOB), fingerprint, state, reason, CAST(certificate AS BLOB), date_s"
_DEVICE = "name, fingerprint, revoked, rotate_s"
_CERTIFICATE = "serial, device, fingerprint, issued_s, not_after_s, state, CAST(pem AS BLOB)"


class Token(NamedTuple):
    """`device` is the only name that it admits, if it is bound to one; `request` the one that used it up."""

    sha256: bytes
    device: str | None
    expires_s: int
    request: str | None


class Request(NamedTuple):
    """A board that asks to be let in. `certificate` is PEM, once it is approved."""

    id: str
    device: str
    pem: bytes
    fingerprint: str
    state: RequestState
    reason: str
    certificate: bytes | None
    date_s: int


class Device(NamedTuple):
    """A member of the fleet, or one that was. `rotate_s`: since when it is to get itself a new key; 0: it is not."""

    name: str
    fingerprint: str
    revoked: bool
    rotate_s: int


class Certificate(NamedTuple):
    """One certificate that was ever issued; `serial` in hexadecimal."""

    serial: str
    device: str
    fingerprint: str
    issued_s: int
    not_after_s: int
    state: CertificateState
    pem: bytes


class Report(NamedTuple):
    """The last that a board said of its release: `body` is JSON."""

    device: str
    date_s: int
    body: bytes


class Entry(NamedTuple):
    """A line of the audit trail."""

    date_s: int
    who: str
    what: str
    subject: str
    detail: str


class Change:
    """Reads and writes within one transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def tokens(self) -> list[Token]:
        """All that are kept, used or not."""
        return [Token(*row) for row in self._db.execute(f"SELECT {_TOKEN} FROM token")]

    def put_token(self, token: Token) -> None:
        """Writes a token."""
        self._db.execute("INSERT OR REPLACE INTO token VALUES (?, ?, ?, ?)", token)

    def drop_tokens(self, expired_before_s: int) -> None:
        """Forgets tokens that ended before this date."""
        self._db.execute("DELETE FROM token WHERE expires_s < ?", (expired_before_s,))

    def request(self, number: str) -> Request | None:
        """The request with this id."""
        row = self._db.execute(f"SELECT {_REQUEST} FROM request WHERE id = ?", (number,)).fetchone()
        return None if row is None else Request(*row)

    def requests_of(self, device: str) -> list[Request]:
        """All requests of a name, the oldest first."""
        rows = self._db.execute(f"SELECT {_REQUEST} FROM request WHERE device = ? ORDER BY date_s, id", (device,))
        return [Request(*row) for row in rows]

    def put_request(self, request: Request) -> None:
        """Writes a request."""
        self._db.execute("INSERT OR REPLACE INTO request VALUES (?, ?, ?, ?, ?, ?, ?, ?)", request)

    def device(self, name: str) -> Device | None:
        """The device of this name."""
        row = self._db.execute(f"SELECT {_DEVICE} FROM device WHERE name = ?", (name,)).fetchone()
        return None if row is None else _device(row)

    def device_with(self, fingerprint: str) -> str | None:
        """The device that a certificate for this key was ever issued to."""
        row = self._db.execute("SELECT device FROM certificate WHERE fingerprint = ?", (fingerprint,)).fetchone()
        return None if row is None else row[0]

    def put_device(self, device: Device) -> None:
        """Writes a device."""
        self._db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?, ?)", device)

    def certificate(self, serial: str) -> Certificate | None:
        """The certificate with this serial number."""
        row = self._db.execute(f"SELECT {_CERTIFICATE} FROM certificate WHERE serial = ?", (serial,)).fetchone()
        return None if row is None else Certificate(*row)

    def certificates_of(self, device: str) -> list[Certificate]:
        """All certificates that were issued to a device."""
        rows = self._db.execute(f"SELECT {_CERTIFICATE} FROM certificate WHERE device = ?", (device,))
        return [Certificate(*row) for row in rows]

    def put_certificate(self, certificate: Certificate) -> None:
        """Writes a certificate."""
        self._db.execute("INSERT OR REPLACE INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?)", certificate)

    def revoked_serials(self, not_after_s: int) -> list[str]:
        """Serial numbers of the revoked certificates that are valid at this date or later, in hexadecimal."""
        query = "SELECT serial FROM certificate WHERE state = 'revoked' AND not_after_s >= ?"
        return [serial for (serial,) in self._db.execute(query, (not_after_s,))]

    def preapproved(self, device: str) -> str | None:
        """The key that a pre-approved name must have, an empty string for any; None if it is not pre-approved."""
        row = self._db.execute("SELECT fingerprint FROM preapproved WHERE device = ?", (device,)).fetchone()
        return None if row is None else row[0]

    def put_preapproved(self, device: str, fingerprint: str) -> None:
        """Pre-approves a name."""
        self._db.execute("INSERT OR REPLACE INTO preapproved VALUES (?, ?)", (device, fingerprint))

    def drop_preapproved(self, device: str) -> None:
        """Takes a name off the list of those that are pre-approved."""
        self._db.execute("DELETE FROM preapproved WHERE device = ?", (device,))

    def put_report(self, report: Report) -> None:
        """Keeps what a board said of its release, in place of what it said before."""
        self._db.execute("INSERT OR REPLACE INTO report VALUES (?, ?, ?)", report)

    def note(self, entry: Entry) -> None:
        """Adds a line to the audit trail."""
        self._db.execute("INSERT INTO audit VALUES (NULL, ?, ?, ?, ?, ?)", entry)


class Registry(Database):
    """The database; see `Change` for what is read and written in it."""

    schema = _SCHEMA

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A transaction that keeps every other one out.

        Raises:
            StoreError: the database cannot be read or written; nothing of the change is kept then, nor where anything
                else is raised within it.
        """
        with self._transaction() as db:
            yield Change(db)

    def request(self, number: str) -> Request | None:
        """The request with this id."""
        row = self._one(f"SELECT {_REQUEST} FROM request WHERE id = ?", number)
        return None if row is None else Request(*row)

    def requests(self, state: RequestState = "pending") -> list[Request]:
        """All requests in this state, the oldest first."""
        query = f"SELECT {_REQUEST} FROM request WHERE state = ? ORDER BY date_s, id"
        return [Request(*row) for row in self._all(query, state)]

    def devices(self) -> list[Device]:
        """All devices, by name."""
        return [_device(row) for row in self._all(f"SELECT {_DEVICE} FROM device ORDER BY name")]

    def certificates(self) -> list[Certificate]:
        """All certificates, the one that is valid longest first."""
        query = f"SELECT {_CERTIFICATE} FROM certificate ORDER BY not_after_s DESC, serial"
        return [Certificate(*row) for row in self._all(query)]

    def reports(self) -> dict[str, Report]:
        """The last report of every board."""
        query = "SELECT device, date_s, CAST(body AS BLOB) FROM report ORDER BY device"
        return {row[0]: Report(*row) for row in self._all(query)}

    def audit(self) -> list[Entry]:
        """The audit trail, the oldest line first."""
        return [
            Entry(*row) for row in self._all("SELECT date_s, who, what, subject, detail FROM audit ORDER BY number")
        ]


def _device(row: tuple[str, str, int, int]) -> Device:
    name, fingerprint, revoked, rotate_s = row
    return Device(name, fingerprint, bool(revoked), rotate_s)
