"""Install, upgrade, roll back and uninstall as the installer calls them, on a board in a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.releases import store
from edge_agent.releases.options import main
from tests.bundles import FAILS, make_once, small_bundle
from tests.edge_agent.releases.boards import tree, version_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "make", make_once)
    made = tmp_path / "board"
    made.mkdir()
    return made


def call(root: Path, command: str, *arguments: str) -> int:
    return main([command, *arguments, "--prefix", str(root)])


def install(root: Path, tmp_path: Path, version: str) -> int:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"certificate")
    options = ["--device", "pi-1", "--fleet", "depot", "--gateway", "https://gateway:8443", "--ca", str(authority)]
    return call(root, "install", str(small_bundle(tmp_path, version)), *options)


def test_a_boards_whole_life(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(root, tmp_path, "1") == 0
    told = capsys.readouterr().out
    assert "agent.toml: written" in told and "release 1 is installed" in told and "nothing is started" in told
    once = tree(root)
    assert install(root, tmp_path, "1") == 0
    assert "agent.toml: kept as it is" in capsys.readouterr().out
    assert {path for path in tree(root) ^ once if "__pycache__" not in path} == set()
    assert (root / "var/lib/rankfleet/identity/ca.pem").read_bytes() == b"certificate"
    assert call(root, "upgrade", str(small_bundle(tmp_path, "2"))) == 0
    assert version_of(root / "opt/rankfleet/current") == "2"
    assert call(root, "rollback") == 0
    assert call(root, "status") == 0
    assert capsys.readouterr().out.endswith("1 current\n2 previous\n")
    assert call(root, "upgrade", str(small_bundle(tmp_path, "3", FAILS))) == 1
    assert "the processor is too old" in capsys.readouterr().err
    assert call(root, "uninstall", "--keep-data") == 0
    assert "kept: " in capsys.readouterr().out
    assert call(root, "uninstall", "--purge") == 0
    assert "nothing of it is left" in capsys.readouterr().out
    assert not [path for path in root.rglob("*") if "rankfleet" in path.name]


def test_texts_are_not_deleted_without_a_word(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(root, tmp_path, "1")
    assert call(root, "uninstall") == 1
    assert "say --purge or --keep-data" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, stays in (("", True), ("y", False)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert call(root, "uninstall") == 0
        assert (root / "var/lib/rankfleet/data").exists() == stays


def test_what_cannot_be_written_or_read_is_told(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "opt").write_text("a file")
    assert install(root, tmp_path, "1") == 1
    assert "rankfleet: " in capsys.readouterr().err


def test_the_agents_user_can_read_what_a_careful_root_installs(root: Path, tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        assert install(root, tmp_path, "1") == 0
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(mask)
    for path in ("opt/rankfleet", "opt/rankfleet/current/release.json", "etc/rankfleet/agent.toml", "usr/local/bin"):
        assert (root / path).stat().st_mode & 0o044 == 0o044, path


def test_the_agent_of_the_debian_package_is_left_to_apt(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(b"certificate")
    member = ["--device", "pi-1", "--fleet", "depot", "--gateway", "https://gateway:8443", "--ca", str(authority)]
    assert call(root, "configure", *member) == 1
    assert "rankfleet-agent is not installed" in capsys.readouterr().err
    (root / "usr/lib/rankfleet-agent").mkdir(parents=True)
    assert call(root, "configure", *member) == 0
    config = (root / "etc/rankfleet/agent.toml").read_text()
    assert call(root, "configure", *member, "--budget-mib", "9") == 0
    assert (root / "etc/rankfleet/agent.toml").read_text() == config
    assert (root / "var/lib/rankfleet/identity/ca.pem").read_bytes() == b"certificate"
    for arguments in (("rollback",), ("upgrade", "1.tar"), ("uninstall", "--purge")):
        assert call(root, *arguments) == 1
        assert "managed by apt" in capsys.readouterr().err
    assert install(root, tmp_path, "1") == 1
    assert not (root / "opt").exists()
