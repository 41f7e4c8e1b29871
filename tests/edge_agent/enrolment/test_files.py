from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_agent.enrolment import files
from edge_agent.wire.errors import StoreError


def test_a_private_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files.make_folder(tmp_path / "identity")
        files.write(tmp_path / "identity" / "key", b"secret", files.PRIVATE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "identity" / "key").stat().st_mode) == 0o600


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    for data in (b"one", b"two"):
        files.write(tmp_path / "a", data)
        files.link(tmp_path / "b", "a")
    assert (tmp_path / "b").read_bytes() == b"two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who gives files to others")
def test_what_root_writes_is_the_folders_owners(tmp_path: Path) -> None:
    folder = tmp_path / "identity"
    files.make_folder(folder)
    os.chown(folder, 12345, 12345)
    files.make_folder(folder / "pairs")
    files.write(folder / "pairs" / "key", b"", files.PRIVATE)
    files.link(folder / "current", "pairs")
    for path in (folder / "pairs", folder / "pairs" / "key", folder / "current"):
        assert path.lstat().st_uid == 12345


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for write in (lambda: files.write(tmp_path / "no" / "a", b""), lambda: files.link(tmp_path / "no" / "a", "b")):
        with pytest.raises(StoreError, match="cannot be written"):
            write()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        files.make_folder(tmp_path / "file" / "folder")
