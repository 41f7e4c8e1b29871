"""How files of a fleet are written: whole, and for nobody else's eyes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from coordinator.enrolment.folder import PUBLIC_FILE, FleetFolder, read
from edge_agent.wire.errors import ConfigError, StoreError


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_secrets_are_the_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    folder = FleetFolder(tmp_path / "fleet")
    before = os.umask(umask)
    try:
        folder.make()
        folder.write(folder.ca_key, b"secret")
        folder.write(folder.ca_certificate, b"public", PUBLIC_FILE)
    finally:
        os.umask(before)
    assert (mode(folder.ca_key), mode(folder.ca_certificate)) == (0o600, 0o644)
    for private in (folder.ca_key, folder.server_key, folder.acl, folder.broker_data / "x"):
        assert mode(private.parent) == 0o700
    assert mode(folder.releases) == 0o755


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.make()
    folder.write(folder.revoked, b"first")
    with folder.revoked.open("rb") as reader:
        folder.write(folder.revoked, b"second")
        assert reader.read() == b"first"
    assert folder.revoked.read_bytes() == b"second"
    assert [path.name for path in folder.revoked.parent.iterdir()] == ["revoked.pem"]


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    folder.make()
    folder.revoked.mkdir()
    with pytest.raises(StoreError, match=r"revoked\.pem cannot be written"):
        folder.write(folder.revoked, b"x")
    assert [path.name for path in folder.revoked.parent.iterdir()] == ["revoked.pem"]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "fleet").write_text("")
    with pytest.raises(StoreError, match="fleet cannot be written"):
        FleetFolder(tmp_path / "fleet").make()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_folders_owner(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path / "fleet")
    folder.root.mkdir()
    os.chown(folder.root, 65534, 65534)
    folder.make()
    folder.write(folder.ca_key, b"secret")
    for path in (folder.ca_key, folder.ca_key.parent, folder.releases):
        assert path.stat().st_uid == 65534
    assert folder.owner == "nobody"
    os.chown(folder.root, 64321, 64321)
    with pytest.raises(ConfigError, match="has no name here"):
        _ = folder.owner


def test_a_file_that_is_missing_is_none_and_one_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    assert read(tmp_path / "none") is None
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path)
