"""`rankfleet experiment soak`, small: what it prints, how it ends, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.cli.main import main

PATIENCE_S = 120.0
SMALL = ["experiment", "soak", "--devices", "4", "--rounds", "5", "--seed", "7"]


def test_a_soak_tells_what_it_has_shown_and_keeps_its_run_where_it_was_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert main([*SMALL, "--folder", str(folder), "--json"]) == 0
    printed = capsys.readouterr()
    outcome = json.loads(printed.out)
    assert (outcome["devices"], outcome["closed"], outcome["violations"]) == (4, 5, [])
    assert outcome["averages_compared"] == 5 and outcome["updates"] > 5
    assert "round 5 of 5 closed after" in printed.err and printed.err.endswith("every law held\n")
    assert (folder / "run" / "coordinator.db").exists()
    assert main([*SMALL, "--folder", str(folder)]) == 1
    assert "is to be new or empty" in capsys.readouterr().err


def test_a_law_that_was_broken_makes_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("profiling.soak.means.TOLERANCE", 0.0)
    assert main(SMALL) == 1
    assert "VIOLATION: round 1: its average is" in capsys.readouterr().out


def test_ctrl_c_ends_the_coordinator_too_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli.main", "experiment", "soak", "--devices", "4", "--rounds", "100"]
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("round 5 of 100 closed") and "left" in line, line
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE_S)[1].endswith("rankfleet: interrupted\n")
    assert process.returncode == 130 and not psutil.wait_procs(children, timeout=PATIENCE_S)[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [["--devices", "3"], ["--rounds", "4"], ["--seed", "-1"], ["--devices", "many"]])
def test_wrong_values_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["experiment", "soak", *wrong])
    assert stopped.value.code == 2
    assert "expected a whole number from" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main([*SMALL, "--folder", str(tmp_path / "file" / "run")]) == 1
    assert "choose another" in capsys.readouterr().err
