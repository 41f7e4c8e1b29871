from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from coordinator.enrolment.shelf import Bundle, Shelf
from edge_agent.wire.errors import EnrolmentError

NAME = "rankfleet-agent-1.2.0rc1-x86_64-cp312.tar"


def test_agent_bundles_are_listed_and_the_rest_can_be_fetched_only(tmp_path: Path) -> None:
    for name in (NAME, "pack-minilm.tar", "notes.txt"):
        (tmp_path / name).write_bytes(b"abc")
    shelf = Shelf(tmp_path)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert shelf.bundles() == [Bundle(NAME, digest, 3, "1.2.0rc1", "x86_64", "3.12")]
    assert shelf.path("pack-minilm.tar") == tmp_path / "pack-minilm.tar"


def test_a_file_that_changed_has_another_checksum(tmp_path: Path) -> None:
    shelf, path = Shelf(tmp_path), tmp_path / NAME
    path.write_bytes(b"abc")
    before = path.stat()
    first = shelf.bundles()[0].sha256
    path.write_bytes(b"abd")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert shelf.bundles()[0].sha256 != first


@pytest.mark.parametrize(
    "name", ["notes.txt", "nothing.tar", "../x.tar", ".hidden.tar", "a/b.tar", "", "x" * 200 + ".tar"]
)
def test_nothing_else_is_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    (tmp_path / ".hidden.tar").write_bytes(b"")
    with pytest.raises(EnrolmentError, match="no bundle"):
        Shelf(tmp_path).path(name)
