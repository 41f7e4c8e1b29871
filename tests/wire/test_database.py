from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.wire.database import Database
from edge_agent.wire.errors import StoreError
from tests.disks import damage


class Notes(Database):
    schema = "CREATE TABLE notes (text TEXT NOT NULL);"

    def note(self, text: str) -> None:
        with self._transaction() as db:
            db.execute("INSERT INTO notes (text) VALUES (?)", (text,))

    def rows(self) -> list[Any]:
        return self._all("SELECT * FROM notes")


def add_author(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE notes ADD COLUMN author TEXT NOT NULL DEFAULT 'nobody'")


def fail(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE notes")
    db.execute("INSERT INTO notes VALUES ('lost')")


def shout(db: sqlite3.Connection) -> None:
    db.execute("UPDATE notes SET text = upper(text)")


class LaterNotes(Notes):
    schema = "CREATE TABLE notes (text TEXT NOT NULL, author TEXT NOT NULL DEFAULT 'nobody');"
    migrations = (add_author, shout)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "notes.db"


def test_values_outlive_the_program(path: Path) -> None:
    first = Notes(path)
    first.keep(number=7, names=("a", "b"))
    first.close()
    again = Notes(path)
    assert again.value("number", int) == 7
    assert again.value("names", tuple[str, ...]) == ("a", "b")
    assert again.value("unknown", int) is None


def test_boots_are_counted_from_one(path: Path) -> None:
    for expected in (1, 2, 3):
        notes = Notes(path)
        assert notes.next_boot() == expected
        notes.close()


@pytest.mark.parametrize(
    "value", [b"\xc1 no MessagePack", b"\xa1\xff", b"\x91" * 100_000], ids=lambda value: repr(value[:9])
)
def test_a_value_that_is_damaged_says_what_to_do(path: Path, value: bytes) -> None:
    notes = Notes(path)
    notes.put(number=value)
    with pytest.raises(StoreError, match=r"'number' cannot be read .* delete .*notes\.db"):
        notes.value("number", int)


def test_a_value_that_can_be_done_without_is_logged_and_replaced(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes(path)
    notes.keep(number=7)
    assert notes.value_or("number", 1, int, "it is counted anew") == 7
    assert notes.value_or("unknown", None, int, "it is counted anew") is None
    assert not caplog.messages
    damage(path, "UPDATE meta SET value = 'no number'")
    assert notes.value_or("number", 1, int, "it is counted anew") == 1
    (said,) = caplog.messages
    assert "notes.db: the value of 'number' cannot be read" in said and said.endswith("it is counted anew")


def test_boots_are_counted_anew_where_the_count_is_damaged(path: Path) -> None:
    notes = Notes(path)
    notes.next_boot()
    damage(path, "UPDATE meta SET value = x'c1'")
    assert [notes.next_boot(), notes.next_boot()] == [1, 2]


def test_a_text_that_is_not_utf_8_does_not_hide_the_others(path: Path) -> None:
    notes = Notes(path)
    for text in ("first", "second"):
        notes.note(text)
    damage(path, "UPDATE notes SET text = CAST(x'ff41' AS TEXT) WHERE text = 'first'")
    assert notes.rows() == [("\ufffdA",), ("second",)]


def test_a_blob_whose_type_is_damaged_is_read_as_the_bytes_that_it_is(path: Path) -> None:
    notes = Notes(path)
    notes.keep(number=7)
    damage(path, "UPDATE meta SET value = CAST(value AS TEXT)")
    assert notes.value("number", int) == 7


def test_several_keys_are_set_together_or_not_at_all(path: Path) -> None:
    notes = Notes(path)
    notes.put(a=b"old", b=b"old")
    with pytest.raises(StoreError):
        notes.put(a=b"new", b=None)  # type: ignore[arg-type]
    assert (notes.get("a"), notes.get("b")) == (b"old", b"old")
    notes.put(a=b"new")
    assert notes.get("a") == b"new"


KILLED = """
import os, signal, sys
from pathlib import Path
from edge_agent.wire.database import Database

class Notes(Database):
    schema = "CREATE TABLE notes (text TEXT NOT NULL);"

notes = Notes(Path(sys.argv[1]))
notes.put(a=b"1", b=b"1")
with notes._transaction() as db:
    db.execute("UPDATE meta SET value = ? WHERE key = 'a'", (b"2",))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_the_old_values(path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, path], check=False).returncode == -9
    notes = Notes(path)
    assert (notes.get("a"), notes.get("b")) == (b"1", b"1")


def test_a_newer_schema_is_refused(path: Path) -> None:
    LaterNotes(path).close()
    with pytest.raises(StoreError, match="has schema 3, this rankfleet knows 1: update it"):
        Notes(path)


def test_what_an_older_rankfleet_left_is_brought_up_to_date(path: Path) -> None:
    older = Notes(path)
    older.keep(number=7)
    older.note("hello")
    older.close()
    for _ in range(2):  # and only once
        newer = LaterNotes(path)
        assert (newer.rows(), newer.value("number", int)) == ([("HELLO", "nobody")], 7)
        newer.close()


def test_a_database_is_made_and_brought_up_to_date_by_several_at_once(path: Path) -> None:
    """Processes, so to speak: each has its own connection. None of them may see half of it."""
    for kind in (Notes, LaterNotes):
        start, failed = threading.Barrier(8), []

        def take_up(kind: type[Database] = kind, start: threading.Barrier = start, failed: list[Any] = failed) -> None:
            start.wait()
            try:
                kind(path).close()
            except StoreError as error:
                failed.append(error)

        threads = [threading.Thread(target=take_up) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        kind(path).close()


def test_a_new_database_needs_no_migration(path: Path) -> None:
    notes = LaterNotes(path)
    notes.note("hello")
    assert notes.rows() == [("hello", "nobody")]


def test_a_migration_that_fails_leaves_everything_as_it_was(path: Path) -> None:
    class Failing(Notes):
        migrations = (add_author, fail)

    older = Notes(path)
    older.note("hello")
    older.close()
    with pytest.raises(StoreError, match="no such table"):
        Failing(path)
    assert Notes(path).rows() == [("hello",)]


def test_an_older_database_is_not_changed_by_reading(path: Path) -> None:
    older = Notes(path)
    older.note("hello")
    with pytest.raises(StoreError, match="has schema 1, this rankfleet reads 3: start the coordinator or the agent"):
        LaterNotes(path, read_only=True)
    assert older.rows() == [("hello",)]


def test_a_read_only_database_is_read_and_never_written(path: Path) -> None:
    writing = Notes(path)
    writing.keep(a=1)
    reading = Notes(path, read_only=True)
    assert reading.value("a", int) == 1
    with pytest.raises(StoreError, match="readonly"):
        reading.keep(a=2)


def test_a_missing_database_is_not_made_by_reading(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(StoreError, match="unable to open"):
        Notes(path, read_only=True)
    assert not path.exists()


def test_another_programs_database_is_not_read(path: Path) -> None:
    path.parent.mkdir()
    sqlite3.connect(path).execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(StoreError, match="no data of rankfleet"):
        Notes(path, read_only=True)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a database " * 100)
    with pytest.raises(StoreError, match=rf"{path.name} cannot be used: .* check free space and permissions"):
        Notes(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"file/notes\.db cannot be used"):
        Notes(tmp_path / "file" / "notes.db")


def test_a_damaged_schema_is_named(path: Path) -> None:
    notes = Notes(path)
    notes.put(a=b"b")
    notes.close()
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE meta", b"CREATE TABLE m\xff\xfe\xfd"))
    with pytest.raises(StoreError, match=r"notes\.db"):
        Notes(path).get("a")
