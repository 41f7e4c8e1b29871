"""The lock between processes."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.service.busy import BUSY, Busy, is_held

HOLDER = """
import sys; from pathlib import Path; from edge_agent.service.busy import Busy
busy = Busy(Path(sys.argv[1])); busy.hold(True); print(flush=True); sys.stdin.read()
"""


def test_it_is_held_from_the_first_call_to_the_last(tmp_path: Path) -> None:
    busy = Busy(tmp_path)
    assert not is_held(tmp_path / BUSY)
    for wanted in (True, True, False, False, True):
        busy.hold(wanted)
        assert is_held(tmp_path / BUSY) is wanted
    busy.hold(False)


def test_asking_makes_no_file(tmp_path: Path) -> None:
    assert not is_held(tmp_path / BUSY)
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_held(tmp_path / BUSY)
        holder.kill()
    assert not is_held(tmp_path / BUSY)


def test_a_lock_that_cannot_be_had_is_told_and_the_round_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        other, mine = Busy(tmp_path), Busy(tmp_path)
        other.hold(True)
        mine.hold(True)
        Busy(tmp_path / "none").hold(True)
    other.hold(False)
    assert not is_held(tmp_path / BUSY)
    assert "an update is under way" in caplog.text and "cannot be written" in caplog.text
