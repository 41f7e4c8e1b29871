"""What the setting `data` means, and what counts as a change of its files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.data_files import Changes, EntryPoint, data_files, entry_point_of, stamps
from edge_agent.wire.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.jsonl", "c.jsonl.gz", ".hidden.jsonl", "d.jsonl.part", "e.csv.tmp", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "below.csv").mkdir()
    return tmp_path


def test_a_folders_files_come_by_name_without_what_is_hidden_or_on_its_way(folder: Path) -> None:
    assert [path.name for path in data_files(folder)] == ["a.jsonl", "b.csv", "c.jsonl.gz"]


def test_a_file_is_itself_even_where_it_is_missing(tmp_path: Path) -> None:
    assert data_files(tmp_path / "none.jsonl") == [tmp_path / "none.jsonl"]
    assert stamps(tmp_path / "none.jsonl") == ()


def test_an_entry_point_has_no_files() -> None:
    data = Path("python:plant.feed:rows")
    assert entry_point_of(data) == EntryPoint("plant.feed", "rows") and str(entry_point_of(data)) == str(data)
    assert data_files(data) == [] and stamps(data) == ()
    assert entry_point_of(Path("/srv/python")) is None


@pytest.mark.parametrize(
    "data", ["python:", "python:feed", "python:feed:", "python::rows", "python:a..b:c", "python:a:b.c"]
)
def test_half_an_entry_point_is_refused(data: str) -> None:
    with pytest.raises(ConfigError, match=r"expected python:package\.module:function"):
        entry_point_of(Path(data))


@pytest.mark.parametrize("change", ["new", "grown", "rewritten", "removed"])
def test_a_change_is_found_once_it_is_time_to_look(folder: Path, change: str) -> None:
    changes = Changes(folder, 10.0)
    changes.reading()
    changes.read()
    assert not changes.found(100.0)
    if change == "new":
        (folder / "z.csv").write_bytes(b"")
    elif change == "grown":
        (folder / "a.jsonl").write_bytes(b"xy")
    elif change == "rewritten":
        os.utime(folder / "a.jsonl", ns=(1, 1))
    else:
        (folder / "b.csv").unlink()
    assert [changes.found(now_s) for now_s in (105.0, 110.0, 115.0, 120.0)] == [False, True, False, True]
    changes.reading()
    changes.read()
    assert not changes.found(130.0)


def test_what_changes_while_it_is_read_is_a_change(folder: Path) -> None:
    changes = Changes(folder, 1.0)
    changes.reading()
    (folder / "a.jsonl").write_bytes(b"longer")
    changes.read()
    assert changes.found(0.0)


def test_what_was_not_read_to_the_end_is_a_change_still(folder: Path) -> None:
    changes = Changes(folder, 1.0)
    changes.reading()
    assert changes.found(0.0)


def test_what_is_no_data_file_is_no_change(folder: Path) -> None:
    before = stamps(folder)
    (folder / "x.jsonl.part").write_bytes(b"on its way")
    (folder / ".y.csv").write_bytes(b"hidden")
    assert stamps(folder) == before


def test_nothing_is_looked_at_where_that_is_asked_for(folder: Path) -> None:
    assert not Changes(folder, 0.0).found(1e9)


def test_looking_imports_no_numpy() -> None:
    code = "import sys, edge_agent.data_files; sys.exit('numpy' in sys.modules or 'csv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
