from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.wire.database import Database
from edge_agent.wire.errors import StoreError


class Notes(Database):
    schema = "CREATE TABLE notes (text TEXT NOT NULL);"
    schema_version = 1


class LaterNotes(Notes):
    schema_version = 2


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
    notes.put(boot=value)
    with pytest.raises(StoreError, match=r"'boot' cannot be read .* delete .*notes\.db"):
        notes.next_boot()


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
    schema_version = 1

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
    with pytest.raises(StoreError, match="has schema 2, this rankfleet knows 1: update it"):
        Notes(path)


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
