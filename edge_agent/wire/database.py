"""One SQLite file, opened the way that both sides need it: WAL, synchronous, errors with a remedy.

Both sides also count their starts and keep a few single values, so the table `meta` is here too.

SQLite keeps whatever type is put into a column, and one flipped bit makes text of a blob. So blobs are read as
`CAST(... AS BLOB)`, and it is their decoder that says whether they are whole.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from .errors import StoreError
from .malformed import MALFORMED

T = TypeVar("T")
D = TypeVar("D")
Decode = Callable[..., Any]

LOGGER = logging.getLogger("rankfleet.database")
BUSY_TIMEOUT_S = 30
_LOCKED_POLL_S = 0.01
_META = "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"


class Database:
    """A database, used by one thread. Every method is one transaction.

    `schema` makes the newest version, `migrations` lead there: the first from version 1 to 2, and so on. What an older
    rankfleet left is brought up to date when it is opened, in one transaction.
    """

    schema: str
    migrations: tuple[Callable[[sqlite3.Connection], None], ...] = ()

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the database at `path`.

        Raises:
            StoreError: it cannot be opened, a newer rankfleet made it, or (read-only) it does not exist or is not up
                to date.
        """
        self.path = path
        with self._reported():
            self._db = _open_read_only(path) if read_only else _open(path)
            try:
                self._prepare(read_only)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, read_only: bool) -> None:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        newest = 1 + len(self.migrations)
        if found > newest:
            raise StoreError(f"{self.path} has schema {found}, this rankfleet knows {newest}: update it")
        if found == 0 and read_only:
            raise StoreError(f"{self.path} holds no data of rankfleet: is it the right file?")
        if found < newest and read_only:
            raise StoreError(
                f"{self.path} has schema {found}, this rankfleet reads {newest}: start the coordinator or the agent "
                "that it belongs to, which brings it up to date"
            )
        if found < newest:
            self._bring_up_to(newest)

    def _bring_up_to(self, newest: int) -> None:
        with self._transaction() as db:
            (found,) = db.execute("PRAGMA user_version").fetchone()  # another process may have done it meanwhile
            if found == 0:
                for statement in f"{_META} {self.schema}".split(";"):
                    db.execute(statement)
            else:
                for migrate in self.migrations[found - 1 :]:
                    migrate(db)
            db.execute(f"PRAGMA user_version={newest}")

    def close(self) -> None:
        """Closes the database."""
        self._db.close()

    def data_version(self) -> int:
        """A number that is another whenever somebody else has written to the database since it was last asked for."""
        (version,) = self._one("PRAGMA data_version")
        return int(version)

    def next_boot(self) -> int:
        """Counts this start of the program and returns its number, from 1 on; from 1 again where it was damaged."""
        boot = 1 + self.value_or("boot", 0, int, "starts are counted from 1 again")
        self.keep(boot=boot)
        return boot

    def value(self, key: str, kind: type[T], remedy: str | None = None) -> T | None:
        """The value of `key` as `keep` put it, or None.

        Raises:
            StoreError: what is there is no `kind`: it is damaged, or another version of rankfleet put it. Unless there
                is another `remedy`, the database is to be deleted.
        """
        data = self.get(key)
        if data is None:
            return None
        return self.read(data, kind, f"the value of {key!r}", remedy or f"to start afresh, delete {self.path}")

    def value_or(self, key: str, otherwise: D, kind: type[T], remedy: str) -> T | D:
        """The value of `key`; `otherwise` where there is none, or where it is damaged, which is logged.

        `remedy` is part of the log's line, and says what becomes of it.
        """
        try:
            known = self.value(key, kind, remedy)
        except StoreError as error:
            LOGGER.warning("%s", error)
            return otherwise
        return otherwise if known is None else known

    def read(self, data: bytes, kind: type[T], what: str, remedy: str, decode: Decode = msgspec.msgpack.decode) -> T:
        """The `kind` that `data` holds, which is in this database as `what`; `decode` is msgspec's for its encoding.

        Raises:
            StoreError: `data` is no `kind`: names the database, `what`, and the `remedy`.
        """
        try:
            return decode(data, type=kind)
        except MALFORMED as error:
            raise self.damaged(what, str(error), remedy) from error

    def damaged(self, what: str, why: str, remedy: str) -> StoreError:
        """The error for `what`, a part of this database that is not as it was written."""
        return StoreError(
            f"{self.path}: {what} cannot be read ({why}): it is damaged, or of another version of rankfleet; {remedy}"
        )

    def keep(self, **values: object) -> None:
        """Sets several keys together, to anything that MessagePack can hold."""
        self.put(**{key: msgspec.msgpack.encode(value) for key, value in values.items()})

    def get(self, key: str) -> bytes | None:
        """The value of `key`, or None."""
        row = self._one("SELECT CAST(value AS BLOB) FROM meta WHERE key = ?", key)
        return None if row is None else row[0]

    def put(self, **values: bytes) -> None:
        """Sets several keys together."""
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def _one(self, query: str, *arguments: object) -> Any:
        with self._reported():
            return self._db.execute(query, arguments).fetchone()

    def _all(self, query: str, *arguments: object) -> list[Any]:
        with self._reported():
            return self._db.execute(query, arguments).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._reported():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last where names in it are damaged
            raise StoreError(
                f"the database {self.path} cannot be used: {error}; check free space and permissions of its folder"
            ) from error


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    db.text_factory = _text
    try:
        _keep_a_write_ahead_log(db)
        db.execute("PRAGMA synchronous=FULL")
    except BaseException:
        db.close()
        raise
    return db


def _keep_a_write_ahead_log(db: sqlite3.Connection) -> None:
    """Where several change a new database to it at once, SQLite refuses all but one without waiting."""
    deadline_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline_s:
                raise
        time.sleep(_LOCKED_POLL_S)


def _open_read_only(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    db.text_factory = _text
    return db


def _text(data: bytes) -> str:
    """One damaged name must not make all rows unreadable."""
    return data.decode(errors="replace")
