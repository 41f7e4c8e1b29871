"""Whether the agent is in a round: it holds a lock on the file `busy` in its state folder meanwhile."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.wire.errors import StoreError

BUSY = "busy"
POLL_S = 1.0


@contextmanager
def between_rounds(state_dir: Path, limit_s: float) -> Iterator[bool]:
    """Waits at most `limit_s` for the end of a round; True: there is none, and none begins while this is held.

    Raises:
        StoreError: the file cannot be opened.
    """
    descriptor = _open(state_dir / BUSY)
    if descriptor is None:
        yield True
        return
    try:
        yield _wait(descriptor, limit_s)
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
        # The agent's user may put anything there, and this is root: no link is followed, no pipe waited for.
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path} cannot be opened: {error.strerror}; delete it and try again") from error


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
