"""A bundle holds what a board needs, with checksums; the same wheels give the same bytes."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from deploy.board import bundle
from deploy.board.bundle import CHECKSUMS, Order, check, make, publish
from deploy.board.wheels import Target
from edge_agent.releases.bundle import unpack
from edge_agent.wire import pack
from edge_agent.wire.errors import ConfigError, FetchError, StoreError
from tests.bundle_gateway import script
from tests.deploy.board.test_wheels import make_wheel
from tests.models import tiny_pack

PI = Target("aarch64", "3.11")
INSTALLER = script("https://gateway:8443").encode()


@pytest.fixture(autouse=True)
def small_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wheels of a few bytes in place of rankfleet's and of those that it needs."""
    monkeypatch.setattr(bundle, "own_wheel", lambda folder: make_wheel(folder, "rankfleet", "1.2"))
    monkeypatch.setattr(bundle, "collect", lambda own, target, constraints, folder: [make_wheel(folder, "pip", "25.0")])


def test_what_is_made_can_be_installed_from_and_has_its_checksums(tmp_path: Path) -> None:
    made = make(Order(PI, tiny_pack(), INSTALLER), tmp_path / "stick")
    digest = pack.file_sha256(tiny_pack() / pack.MANIFEST)
    assert [path.name for path in made] == [
        "rankfleet-agent-1.2-aarch64-cp311.tar", f"rankfleet-pack-{digest[:16]}.tar", "install.sh", CHECKSUMS,
    ]  # fmt: skip
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=tmp_path / "stick", check=True)
    (tmp_path / "unpacked").mkdir()
    told = unpack(made[0], tmp_path / "unpacked")
    assert (told.version, told.machine, told.python) == ("1.2", "aarch64", "3.11")
    assert sorted(told.files) == ["wheels/pip-25.0-py3-none-any.whl", "wheels/rankfleet-1.2-py3-none-any.whl"]
    with tarfile.open(made[1]) as tar:
        assert tar.getnames()[0] == pack.MANIFEST
        tar.extractall(tmp_path / "pack", filter="data")
    assert pack.verify(tmp_path / "pack") == pack.verify(tiny_pack())
    assert made[2].read_bytes() == INSTALLER


def test_files_of_a_tar_have_no_owner_and_no_date(tmp_path: Path) -> None:
    (path, _) = make(Order(PI), tmp_path)
    with tarfile.open(path) as tar:
        assert {(one.uid, one.gid, one.uname, one.mtime, one.mode) for one in tar} == {(0, 0, "", 0, 0o644)}


def test_a_bundle_is_published_whole(tmp_path: Path) -> None:
    (path, _) = make(Order(PI), tmp_path / "out")
    with pytest.raises(ConfigError, match="rankfleet coordinator init"):
        publish(path, tmp_path / "releases")
    (tmp_path / "releases").mkdir()
    for _ in range(2):
        assert publish(path, tmp_path / "releases").read_bytes() == path.read_bytes()
    assert [one.name for one in (tmp_path / "releases").iterdir()] == [path.name]


@pytest.mark.parametrize("target", [Target("armv7l", "3.11"), Target("aarch64", "3.9"), Target("aarch64", "3")])
def test_boards_that_are_not_supported_are_refused(target: Target) -> None:
    with pytest.raises(ConfigError, match=r"expected a target of aarch64, x86_64 and a Python of 3\.10, 3\.11"):
        check(target)


def test_what_goes_wrong_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        make(Order(PI), tmp_path / "file")

    def none(*arguments: object) -> list[Path]:
        raise FetchError("pip found no wheels")

    monkeypatch.setattr(bundle, "collect", none)
    with pytest.raises(FetchError, match="no wheels"):
        make(Order(PI), tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.tar"))
