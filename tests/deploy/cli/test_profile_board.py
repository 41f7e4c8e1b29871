from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.cli.main import main
from tests.profiling.test_board import with_budget
from tests.profiling.test_budget import MIB, _agent


def test_board_shows_what_is_predicted_and_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = str(_agent(tmp_path))
    with_budget(tmp_path, 512 * MIB)
    assert main(["profile", "board", agent, "--predict-only"]) == 0
    shown = capsys.readouterr().out
    assert "pi-1: budget 536.9 MB" in shown and "predicted" in shown and "measured" not in shown
    assert main(["profile", "board", agent]) == 0
    assert "measured, as the device plans it:" in capsys.readouterr().out
    assert main(["profile", "board", agent, "--predict-only", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["measured"] == []


def test_overhead_shows_medians_and_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agent = str(_agent(tmp_path))
    assert main(["profile", "overhead", agent, "--pairs", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["figure", "without", "recorded", "difference", "95", "%", "interval", "share"]
    assert lines[-1] == "1 pairs; the limit is 2% of a round"
