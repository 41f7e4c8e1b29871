"""One process a folder: a second one would share its database, its files and its name at the broker."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import StoreError

LOCK = "lock"


@contextmanager
def only_one(folder: Path, what: str) -> Iterator[None]:
    """Keeps `folder`, which is made where it is missing, to this process; `what` names the program in the error.

    The system gives the lock back when the process ends, however it ends.

    Raises:
        StoreError: another process has the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror}; check its permissions and free space"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"another {what} is running in {folder}: stop it, or give each its own folder") from error
        yield
