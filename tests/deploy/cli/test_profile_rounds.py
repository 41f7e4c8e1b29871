from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.main import main
from tests.profiling.rounds.recordings import demo, record
from tests.profiling.rounds.test_prices import EXAMPLE


def test_run_shows_phases_and_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "run", str(record(tmp_path, [10.0, 12.0]))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["train", "2", "11.000"] for line in lines)
    assert main(["profile", "run", str(tmp_path), "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["pi-1"]
    assert {entry["kind"] for entry in entries} == {"phase", "round"}


def test_compare_shows_what_differs_and_on_demand_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = str(record(tmp_path / "a", [10.0, 10.1, 9.9])), str(record(tmp_path / "b", [20.0, 20.1, 19.9]))
    assert main(["profile", "compare", *folders]) == 0
    shown = capsys.readouterr().out
    assert main(["profile", "compare", *folders, "--all"]) == 0
    everything = capsys.readouterr().out
    assert "train  wall s" in shown and "load " not in shown and "load " in everything
    assert main(["profile", "compare", *folders, "--json"]) == 0
    assert {one["figure"] for one in json.loads(capsys.readouterr().out)} >= {"wall s", "J"}


def test_report_writes_three_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "report", str(demo(tmp_path / "run", [10.0])), "-o", str(tmp_path / "out")]) == 0
    written = capsys.readouterr().out.split()
    assert [Path(path).name for path in written] == ["report.html", "report.md", "phases.csv"]
    assert all(Path(path).stat().st_size > 0 for path in written)


def test_cost_prints_every_assumption_and_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "cost", str(EXAMPLE), str(demo(tmp_path, [10.0, 20.0]))]) == 0
    shown = capsys.readouterr().out
    for words in ("in all", "a round", "a point of accuracy", "assumptions:", "none of them is measured", "a pilot:"):
        assert words in shown
    assert main(["profile", "cost", str(EXAMPLE), str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["currency"] == "EUR"


def test_a_folder_without_a_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "run", str(tmp_path)]) == 1
    assert "holds no record of rounds" in capsys.readouterr().err
