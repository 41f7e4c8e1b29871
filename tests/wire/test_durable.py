"""A file or a link is replaced as a whole, and belongs to the owner of its folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.wire import durable


def test_a_file_has_its_mode_whatever_the_umask_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path, mask = tmp_path / "file", os.umask(0o077)
    try:
        for data in (b"first", b"second"):
            durable.write(path, data, 0o644)
            assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(mask)
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_what_cannot_take_its_place_leaves_the_old_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (path / "below").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        durable.write(path, b"data")
    assert (path / "below").is_dir() and [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_a_link_is_switched_and_never_followed(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        durable.link(tmp_path / "link", name)
    assert (tmp_path / "link").resolve() == tmp_path / "2"
    assert not list((tmp_path / "1").iterdir()) and not list((tmp_path / "2").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, 1234, 1234)
    durable.write(tmp_path / "file", b"")
    durable.link(tmp_path / "link", "nowhere")
    assert {one.lstat().st_uid for one in tmp_path.iterdir()} == {1234}
