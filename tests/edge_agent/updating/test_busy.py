"""A round is waited for, and none begins while an update holds its lock."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.updating.busy import BUSY, between_rounds
from edge_agent.wire.errors import StoreError

ROUND = """
import fcntl, sys, time
file = open(sys.argv[1], "ab")
fcntl.flock(file, fcntl.LOCK_EX)
print("in a round", flush=True)
time.sleep(float(sys.argv[2]))
"""


def in_a_round(state_dir: Path, seconds: float) -> subprocess.Popen[str]:
    """An agent's process that is in a round for a while."""
    command = [sys.executable, "-c", ROUND, str(state_dir / BUSY), str(seconds)]
    agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    agent.stdout.readline()
    return agent


def test_the_end_of_a_round_is_waited_for(tmp_path: Path) -> None:
    with in_a_round(tmp_path, 1.0):
        began_s = time.monotonic()
        with between_rounds(tmp_path, 30.0) as idle:
            assert idle
        assert time.monotonic() - began_s >= 0.5


def test_a_long_round_is_left_alone(tmp_path: Path) -> None:
    with in_a_round(tmp_path, 60.0) as agent:
        with between_rounds(tmp_path, 0.2) as idle:
            assert not idle
        agent.kill()


def test_no_round_begins_meanwhile(tmp_path: Path) -> None:
    (tmp_path / BUSY).touch()
    with between_rounds(tmp_path, 0), (tmp_path / BUSY).open("ab") as agents, pytest.raises(BlockingIOError):
        fcntl.flock(agents, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_board_whose_agent_never_ran_is_idle(tmp_path: Path) -> None:
    with between_rounds(tmp_path, 0) as idle:
        assert idle
    assert not list(tmp_path.iterdir())


def test_a_link_is_not_followed_and_a_pipe_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / BUSY).symlink_to(tmp_path / "secret")
    with pytest.raises(StoreError, match="delete it"), between_rounds(tmp_path, 0):
        pass
    (tmp_path / BUSY).unlink()
    os.mkfifo(tmp_path / BUSY)
    with between_rounds(tmp_path, 0) as idle:
        assert idle
