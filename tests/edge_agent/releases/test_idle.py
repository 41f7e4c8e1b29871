"""Whether an agent is in a round, or runs at all, is seen by its locks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from edge_agent.releases.idle import idle, runs
from edge_agent.wire.errors import ReleaseError
from edge_agent.wire.folder_lock import only_one


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
