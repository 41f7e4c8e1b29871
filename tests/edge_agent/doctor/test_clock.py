"""Dates that can be right, and one that cannot."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.doctor.clock import SLACK_S, SYNCHRONISED, clock
from tests.edge_agent.doctor.test_board import put

WRITTEN_S = 1_790_000_000.0


def written(folder: Path) -> list[Path]:
    path = folder / "agent.db"
    path.touch()
    os.utime(path, (WRITTEN_S, WRITTEN_S))
    return [path, folder / "none"]


def test_a_date_before_what_was_written_is_wrong(tmp_path: Path) -> None:
    found = clock(tmp_path, written(tmp_path), WRITTEN_S - SLACK_S - 1)
    assert found.level == "failure" and "21 September 2026" in found.found


def test_a_date_that_nobody_confirmed_may_be_wrong(tmp_path: Path) -> None:
    assert clock(tmp_path, written(tmp_path), WRITTEN_S + 1).level == "warning"


def test_a_date_of_a_time_server_is_right(tmp_path: Path) -> None:
    put(tmp_path, SYNCHRONISED, "")
    assert clock(tmp_path, written(tmp_path), WRITTEN_S + 1).level == "ok"
    assert clock(tmp_path, [], None).level == "ok", "with nothing to compare it with"
