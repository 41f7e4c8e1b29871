from __future__ import annotations

from pathlib import Path

import pytest

from deploy.board import units
from deploy.cli.main import main

CONFIG = 'device = "pi-1"\nfleet = "f"\ndata = "a.csv"\nstate_dir = "state"\n[broker]\nhost = "gateway"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(CONFIG)
    return path


def test_units_are_printed_with_the_place_where_each_belongs(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "unit", str(config), "--release", "/srv/here"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("# /")] == [
        f"# /etc/systemd/system/{name}" for name in (units.AGENT, units.UPDATE, units.TIMER)
    ]
    assert f"ExecStart=/srv/here/bin/python -m edge_agent {config}" in said
    assert f"ReadWritePaths={config.parent / 'state'}" in said


def test_they_are_written_below_a_root_and_again_over_what_is_there(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["agent", "unit", str(config), "--install", "--root", str(tmp_path / "root")]) == 0
    assert "systemctl daemon-reload" in capsys.readouterr().out
    (folder,) = {path.parent for path in (tmp_path / "root").rglob("rankfleet-*")}
    assert folder == tmp_path / "root/etc/systemd/system"
    assert len(list(folder.iterdir())) == 3


def test_where_they_cannot_be_written_it_says_so(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "unit", str(config), "--install", "--root", "/proc"]) == 1
    assert "run this as root" in capsys.readouterr().err
