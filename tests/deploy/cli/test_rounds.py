"""`rankfleet coordinator pause` and `resume`: what they write, for a fleet's folder and for a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import pause
from coordinator.run import DATABASE
from coordinator.store import Store
from deploy.cli.main import main
from tests.brokers import require_mosquitto
from tests.gateways import founded


def said(run_dir: Path) -> pause.Pause:
    store = Store(run_dir / DATABASE, read_only=True)
    try:
        return pause.said(store)
    finally:
        store.close()


def test_a_run_folder_is_paused_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path / DATABASE).close()
    assert main(["coordinator", "pause", str(tmp_path)]) == 0
    assert "no other opens until `rankfleet coordinator resume`" in capsys.readouterr().out
    assert said(tmp_path).paused and said(tmp_path).who == "the command line"
    assert main(["coordinator", "resume", str(tmp_path)]) == 0
    assert not said(tmp_path).paused


def test_a_fleets_folder_stands_for_the_run_that_its_configuration_names_even_before_the_first_start(
    tmp_path: Path,
) -> None:
    require_mosquitto()
    folder, _ = founded(tmp_path / "fleet")
    text = folder.coordinator_config.read_text().replace('run_dir = "run"', 'run_dir = "elsewhere"')
    folder.coordinator_config.write_text(text)
    assert main(["coordinator", "pause", str(folder.root)]) == 0
    assert said(folder.root / "elsewhere").paused


def test_a_folder_of_neither_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "pause", str(tmp_path)]) == 1
    assert "holds no fleet" in capsys.readouterr().err
