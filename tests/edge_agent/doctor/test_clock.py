"""Dates that can be right, and one that cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.doctor.clock import NEWEST_DATE, SLACK_S, SYNCHRONISED, bound_s, clock, present_s
from tests.edge_agent.doctor.test_board import put

WRITTEN_S = 1_790_000_000.0


def written(folder: Path) -> list[Path]:
    path = folder / "agent.db"
    path.touch()
    os.utime(path, (WRITTEN_S, WRITTEN_S))
    return [path, folder / "none"]


def test_a_date_before_what_is_known_is_wrong(tmp_path: Path) -> None:
    found = clock(tmp_path, bound_s(written(tmp_path), None), WRITTEN_S - SLACK_S - 1)
    assert found.level == "failure" and "21 September 2026" in found.found


def test_a_date_that_nobody_confirmed_may_be_wrong(tmp_path: Path) -> None:
    assert clock(tmp_path, WRITTEN_S, WRITTEN_S + 1).level == "warning"


def test_a_date_of_a_time_server_is_right(tmp_path: Path) -> None:
    put(tmp_path, SYNCHRONISED, "")
    assert clock(tmp_path, WRITTEN_S, WRITTEN_S + 1).level == "ok"
    assert clock(tmp_path, 0.0, present_s()).level == "ok", "with nothing to compare it with"


@pytest.mark.parametrize(
    ("kept", "expected_s"),
    [
        ("2026-09-21T14:13:21Z", WRITTEN_S + 1),
        ("2026-09-21T14:13:21+00:00\n", WRITTEN_S + 1),
        ("2026-09-20T14:13:21Z", WRITTEN_S),
        ("garbage", WRITTEN_S),
        ("", WRITTEN_S),
    ],
)
def test_the_later_of_files_and_the_kept_date_is_the_bound(tmp_path: Path, kept: str, expected_s: float) -> None:
    (tmp_path / NEWEST_DATE).write_text(kept)
    assert bound_s(written(tmp_path), tmp_path) == expected_s


def test_without_files_there_is_no_bound(tmp_path: Path) -> None:
    assert bound_s([tmp_path / "none"], tmp_path) == 0.0
