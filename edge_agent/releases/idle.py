"""Whether the agent may be stopped: it holds a lock on the file `busy` in its state folder while it is in a round."""

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
def idle(state_dir: Path, limit_s: float) -> Iterator[None]:
    """Waits until the agent is in no round, and keeps it out of one meanwhile.

    Raises:
        ReleaseError: it still is in one after `limit_s` seconds, or the file cannot be opened.
    """
    descriptor = _open(state_dir / BUSY)
    if descriptor is None:
        yield
        return
    try:
        deadline_s = time.monotonic() + limit_s
        while not _lock(descriptor):
            if time.monotonic() >= deadline_s:
                raise ReleaseError(f"the agent is in a round still after {limit_s:.0f} s: try again later")
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


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


def _open(path: Path) -> int | None:
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
