"""Who may read what the agent writes, and what is told of errors that nobody foresaw."""

from __future__ import annotations

import logging
import stat
import sys
from pathlib import Path

import pytest

from edge_agent.privacy import OWN, exposed, mute, place, private_files, tighten, trace


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_what_is_made_is_its_users_alone(tmp_path: Path) -> None:
    with private_files():
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "file").write_bytes(b"")
    assert (mode(tmp_path / "own"), mode(tmp_path / "own" / "file")) == (0o700, 0o600)
    (tmp_path / "other").write_bytes(b"")
    assert mode(tmp_path / "other") != 0o600, "only meanwhile"


def test_what_others_may_use_is_taken_from_them_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    packs = tmp_path / "packs" / "0a"
    packs.mkdir(parents=True)
    database, foreign, target = tmp_path / "agent.db", tmp_path / "train.jsonl", tmp_path / "elsewhere"
    for path in (database, foreign, target, packs / "weights.bin"):
        path.write_bytes(b"")
        path.chmod(0o644)
    (packs / "link").symlink_to(target)
    tmp_path.chmod(0o755)
    tighten(tmp_path)
    assert [mode(path) for path in (tmp_path, packs, packs / "weights.bin", database)] == [0o700, 0o700, 0o600, 0o600]
    assert mode(foreign) == mode(target) == 0o644, "not the agent's own"
    assert "others could use 5 files and folders" in caplog.text
    caplog.clear()
    tighten(tmp_path)
    assert not caplog.records


def test_a_folder_that_is_not_there_yet_is_no_matter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        tighten(tmp_path / "none")
    assert not caplog.records


def test_what_cannot_be_tightened_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / OWN[0]).write_bytes(b"")
    (tmp_path / OWN[0]).chmod(0o666)

    def refuse(path: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    tighten(tmp_path)
    assert f"{tmp_path / OWN[0]} may be used by others, and that cannot be changed" in caplog.text


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A folder that all the system reaches: pytest's own is closed."""
    for folder in (tmp_path, *tmp_path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            try:
                folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
            except PermissionError:
                pytest.skip(f"{folder} CANNOT BE OPENED, so data that all can read are NOT tested")
    return tmp_path


def test_a_file_that_all_can_read_is_exposed_where_they_reach_it(public: Path) -> None:
    file, closed = public / "a.jsonl", public / "b.jsonl"
    for path, bits in ((file, 0o644), (closed, 0o640)):
        path.write_bytes(b"")
        path.chmod(bits)
    assert exposed([file, closed, public / "none.jsonl"]) == [file]
    public.chmod(0o750)
    assert exposed([file]) == []


def raised() -> ValueError:
    try:
        try:
            raise KeyError("a secret text")
        except KeyError as error:
            raise ValueError("another secret") from error
    except ValueError as error:
        return error


def test_a_trace_tells_types_and_places_and_no_message() -> None:
    told = trace(raised())
    assert "secret" not in told
    assert told.startswith("ValueError\n  at ") and "\nafter KeyError\n  at " in told
    assert told.count(f"{__file__}:") == 2 and "(raised)" in told
    assert place(raised()).startswith(f"{__file__}:") and place(ValueError("secret")) == "an unknown place"


def test_muted_ends_with_an_error_too(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), mute():
        sys.stdout.write("nobody hears this")
        raise ZeroDivisionError
    sys.stdout.write("heard\n")
    assert capfd.readouterr().out == "heard\n"
