"""What an operator rolls out is read, checked, and put where boards fetch it."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest

from coordinator.enrolment.release_files import agent_release, pack_release
from coordinator.enrolment.rollout import Bundle
from edge_agent.wire import pack
from edge_agent.wire.errors import ConfigError, PackError, StoreError
from tests.models import tiny_pack


def bundle(folder: Path, version: str = "1.1", machine: str = "aarch64", python: str = "3.11", **more: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"rankfleet-agent-{version}-{machine}-cp{python.replace('.', '')}.tar"
    data = json.dumps({"version": version, "machine": machine, "python": python, "files": {}, **more}).encode()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return path


def test_bundles_for_several_kinds_of_board_are_one_release(tmp_path: Path) -> None:
    files = [bundle(tmp_path / "in"), bundle(tmp_path / "in", machine="x86_64", python="3.12")]
    release = agent_release(files, tmp_path / "releases")
    assert (release.kind, release.version) == ("agent", "1.1")
    assert release.bundles == tuple(
        Bundle(path.name, pack.file_sha256(path), path.stat().st_size, machine, python)
        for path, machine, python in zip(files, ("aarch64", "x86_64"), ("3.11", "3.12"), strict=True)
    )
    assert all((tmp_path / "releases" / path.name).read_bytes() == path.read_bytes() for path in files)
    assert agent_release(files, tmp_path / "releases") == release


def test_two_versions_are_no_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\['1\.1', '1\.2'\]"):
        agent_release([bundle(tmp_path), bundle(tmp_path, "1.2", "x86_64")], tmp_path / "releases")


def test_two_bundles_for_the_same_kind_of_board_are_no_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two of these are for the same"):
        agent_release([bundle(tmp_path / "a"), bundle(tmp_path / "b")], tmp_path / "releases")


def test_a_bundle_that_boards_may_have_is_not_replaced(tmp_path: Path) -> None:
    agent_release([bundle(tmp_path / "a")], tmp_path / "releases")
    with pytest.raises(ConfigError, match="another bundle of that name"):
        agent_release([bundle(tmp_path / "b", note="altered")], tmp_path / "releases")


def test_what_is_no_bundle_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no tar", encoding="utf-8")
    (tmp_path / "empty.tar").write_bytes(b"")
    for path in (tmp_path / "text.tar", tmp_path / "empty.tar", bundle(tmp_path, "newest")):
        with pytest.raises(ConfigError, match=path.name):
            agent_release([path], tmp_path / "releases")
    with pytest.raises(StoreError, match=r"missing\.tar cannot be used"):
        agent_release([tmp_path / "missing.tar"], tmp_path / "releases")


def test_a_pack_is_one_bundle_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    release = pack_release(tiny_pack(), tmp_path / "a")
    assert release == pack_release(Path(shutil.copytree(tiny_pack(), tmp_path / "copy")), tmp_path / "b")
    (one,) = release.bundles
    assert release.version == pack.file_sha256(tiny_pack() / pack.MANIFEST)[:16]
    assert one.name == f"rankfleet-pack-{release.version}.tar"
    with tarfile.open(tmp_path / "a" / one.name) as tar:
        assert tar.getnames() == [pack.MANIFEST, *sorted(pack.load_manifest(tiny_pack()).files)]


def test_a_damaged_pack_is_not_rolled_out(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_pack(), tmp_path / "copy"))
    (folder / pack.WEIGHTS).write_bytes(b"")
    with pytest.raises(PackError, match=r"weights\.bin"):
        pack_release(folder, tmp_path / "releases")
