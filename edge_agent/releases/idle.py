"""Whether the agent is in a round: it holds a lock on the file `busy` in its state folder meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.wire.errors import ReleaseError
from edge_agent.wire.folder_lock import LOCK

BUSY = "busy"
POLL_S = 1.0


@contextmanager
def between_rounds(state_dir: Path, limit_s: float) -> Iterator[bool]:
    """Waits at most `limit_s` for the end of a round; True: there is none, and none begins while this is held.

    Raises:
        ReleaseError: the file cannot be opened.
    """
    descriptor = _open(state_dir / BUSY)
    if descriptor is None:
        yield True
        return
    try:
        yield _wait(descriptor, limit_s)
    finally:
        os.close(descriptor)


@contextmanager
def idle(state_dir: Path, limit_s: float) -> Iterator[None]:
    """As `between_rounds`, for what must not be done in a round.

    Raises:
        ReleaseError: the agent still is in a round after `limit_s` seconds, or the file cannot be opened.
    """
    with between_rounds(state_dir, limit_s) as is_idle:
        if not is_idle:
            raise ReleaseError(f"the agent is in a round still after {limit_s:.0f} s: try again later")
        yield


def runs(state_dir: Path) -> bool:
    """Whether an agent runs with this state folder, whoever started it.

    Raises:
        ReleaseError: its lock cannot be opened.
    """
    descriptor = _open(state_dir / LOCK)
    if descriptor is None:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def _wait(descriptor: int, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while not _lock(descriptor):
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(POLL_S, left_s))
    return True


def _open(path: Path) -> int | None:
    """None: no agent has run here yet."""
    try:
        # The agent's user may put anything there, and this is root: no link is followed and no pipe waited for.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ReleaseError(f"{path} cannot be opened: {error.strerror}; delete it and try again") from error


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
