"""Writing so that a power cut leaves the old or the new, never half of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY = ".new"
"""Ending of what is about to be renamed; a leftover of it is worth nothing."""


@contextmanager
def for_everybody() -> Iterator[None]:
    """What is made meanwhile can be read by the agent's user, however careful root is with files of its own."""
    mask = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(mask)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Puts a file with `data` in the place of `path`. Raises OSError."""
    new = path.with_name(path.name + TEMPORARY)
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def link(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, whatever file or link it was. Raises OSError."""
    new = path.with_name(path.name + TEMPORARY)
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Deletes a file if it is there. Raises OSError."""
    if path.exists() or path.is_symlink():
        path.unlink()
        sync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Deletes a folder with all in it, or a link or file of that name. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
