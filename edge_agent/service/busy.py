"""Whether an agent may be restarted now: it holds `state_dir/busy` while it is in a round."""

from __future__ import annotations

import fcntl
import logging
from pathlib import Path
from typing import BinaryIO

LOGGER = logging.getLogger("rankfleet.agent")
BUSY = "busy"


class Busy:
    """The agent's own hold of the file. The system gives it back when the process ends, however it ends."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / BUSY
        self._file: BinaryIO | None = None

    def hold(self, wanted: bool) -> None:
        """Takes the lock, or gives it back; either may be asked for again and again."""
        if wanted and self._file is None:
            self._file = self._taken()
        elif not wanted and self._file is not None:
            self._file.close()
            self._file = None

    def _taken(self) -> BinaryIO | None:
        """None where it cannot be had: who updates would not see the round, which is repeated if it is cut short."""
        try:
            file = self._path.open("ab")
        except OSError as error:
            LOGGER.warning("%s cannot be written (%s): an update may interrupt this round", self._path, error.strerror)
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            LOGGER.warning("%s is held by another: an update is under way and may interrupt this round", self._path)
            return None
        return file


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on the file `path`. Nothing is made or kept.

    Raises:
        PermissionError: this user may not look.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
