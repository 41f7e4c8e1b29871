"""`rankfleet deploy bundle`: what it says, and what it refuses before it fetches anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.board import bundle
from deploy.cli.main import main
from tests.deploy.board.test_wheels import make_wheel
from tests.gateways import founded


@pytest.mark.parametrize("command", [["deploy"], ["deploy", "bundle"], ["deploy", "deb"]])
def test_it_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: rankfleet {' '.join(command)}")


def test_a_kind_of_board_that_is_not_supported_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "bundle", "--target", "armv7l", "--out", str(tmp_path / "out")]) == 1
    assert "got armv7l and 3.11" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_fleets_folder_gets_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundle, "own_wheel", lambda folder: make_wheel(folder, "rankfleet", "1.2"))
    monkeypatch.setattr(bundle, "collect", lambda own, target, constraints, folder: [])
    folder, _ = founded(tmp_path / "fleet", hosts=("gateway.local",))
    assert main(["deploy", "bundle", "--fleet", str(folder.root), "--out", str(tmp_path / "out")]) == 0
    assert "boards fetch it from here" in capsys.readouterr().out
    name = "rankfleet-agent-1.2-aarch64-cp311.tar"
    assert (folder.releases / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert "https://gateway.local:8443" in (tmp_path / "out" / "install.sh").read_text()
