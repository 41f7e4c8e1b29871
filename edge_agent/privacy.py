"""Keeps a device's data to its owner: file modes, and what must not be printed.

What the agent writes holds traces of the data (states, ranks that were trained on them), so nobody but its user may
read it. An error's message may quote a text, so of errors that nobody foresaw only types and places are told.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

LOGGER = logging.getLogger("rankfleet.agent")
MASK = 0o077
"""Of new files: nothing for the group and for others."""
OWN = ("agent.db", "agent.db-wal", "agent.db-shm", "busy", "lock", "objects", "packs", "prefix")
"""What the agent has in its state folder; anything else there is not its business."""
_STDOUT, _STDERR = 1, 2


@contextmanager
def private_files() -> Iterator[None]:
    """What this process and its children create meanwhile, only its own user may use."""
    before = os.umask(MASK)
    try:
        yield
    finally:
        os.umask(before)


def tighten(folder: Path) -> None:
    """Takes from group and others what they may do with the state folder and the agent's own files in it.

    Links are left alone. What was changed, and what cannot be changed, is logged; a folder that is not there is no
    matter.
    """
    changed = 0
    for path in (folder, *_own(folder)):
        try:
            changed += _tighten_one(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            LOGGER.warning("%s may be used by others, and that cannot be changed: %s", path, error.strerror)
    if changed:
        LOGGER.warning(
            "%s: others could use %d files and folders of the agent; now its user alone can", folder, changed
        )


def exposed(files: Iterable[Path]) -> list[Path]:
    """Those of `files` that every user of the system can read."""
    return [path for path in files if _mode(path) & stat.S_IROTH and _is_reached_by_all(path.resolve().parent)]


@contextmanager
def mute() -> Iterator[None]:
    """What is printed meanwhile, from whatever language, goes nowhere."""
    kept = [(number, os.dup(number)) for number in (_STDOUT, _STDERR)]
    _flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        with Path(os.devnull).open("w") as null, redirect_stdout(null), redirect_stderr(null):
            yield  # Python's own streams may lead elsewhere
    finally:
        _flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)


def place(error: BaseException) -> str:
    """Where an error was raised: file, line and function."""
    frames = [frame for frame in _frames(error) if not frame.startswith("<frozen")]
    return frames[-1] if frames else "an unknown place"


def trace(error: BaseException) -> str:
    """An error's type and all the places on its way, of its causes too, without any message."""
    lines = [f"{type(error).__name__}", *(f"  at {frame}" for frame in _frames(error))]
    before = error.__cause__ or error.__context__
    return "\n".join(lines) + ("" if before is None else f"\nafter {trace(before)}")


def _frames(error: BaseException) -> list[str]:
    steps = traceback.walk_tb(error.__traceback__)
    return [f"{frame.f_code.co_filename}:{line} ({frame.f_code.co_name})" for frame, line in steps]


def _own(folder: Path) -> Iterator[Path]:
    for name in OWN:
        yield folder / name
        for where, folders, files in os.walk(folder / name):
            yield from (Path(where, one) for one in (*folders, *files))


def _tighten_one(path: Path) -> bool:
    """Whether there was something to take."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode) or not mode & MASK:
        return False
    path.chmod(stat.S_IMODE(mode) & ~MASK)
    return True


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _is_reached_by_all(folder: Path) -> bool:
    return all(_mode(one) & stat.S_IXOTH for one in (folder, *folder.parents))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
