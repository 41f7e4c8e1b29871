"""Whether an agent is in a round, or runs at all, is seen by its locks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.releases.idle import BUSY, between_rounds, idle, runs
from edge_agent.wire.errors import ReleaseError
from edge_agent.wire.folder_lock import only_one

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
        with between_rounds(tmp_path, 30.0) as is_idle:
            assert is_idle
        assert time.monotonic() - began_s >= 0.5


def test_a_long_round_is_left_alone(tmp_path: Path) -> None:
    with in_a_round(tmp_path, 60.0) as agent:
        with between_rounds(tmp_path, 0.2) as is_idle:
            assert not is_idle
        agent.kill()


def test_no_round_begins_meanwhile(tmp_path: Path) -> None:
    (tmp_path / BUSY).touch()
    with between_rounds(tmp_path, 0), (tmp_path / BUSY).open("ab") as agents, pytest.raises(BlockingIOError):
        fcntl.flock(agents, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_board_whose_agent_never_ran_is_idle(tmp_path: Path) -> None:
    with between_rounds(tmp_path, 0) as is_idle:
        assert is_idle
    assert not list(tmp_path.iterdir())


def test_without_an_agent_nothing_is_waited_for(tmp_path: Path) -> None:
    with idle(tmp_path / "none", 0):
        assert not runs(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_round_is_waited_for_and_kept_out(tmp_path: Path) -> None:
    with (tmp_path / "busy").open("wb") as round_:
        fcntl.flock(round_, fcntl.LOCK_EX)
        with pytest.raises(ReleaseError, match="in a round still"), idle(tmp_path, 0):
            pass
        fcntl.flock(round_, fcntl.LOCK_UN)
        with idle(tmp_path, 0), pytest.raises(BlockingIOError):
            fcntl.flock(round_, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(round_, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_running_agent_is_seen(tmp_path: Path) -> None:
    with only_one(tmp_path, "agent"):
        assert runs(tmp_path)
    assert not runs(tmp_path)


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "busy").symlink_to("/etc/passwd")
    with pytest.raises(ReleaseError, match="busy cannot be opened"), idle(tmp_path, 0):
        pass
    (tmp_path / "busy").unlink()
    os.mkfifo(tmp_path / "busy")
    with idle(tmp_path, 0):
        pass
