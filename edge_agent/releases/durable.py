"""Writing so that a power cut leaves the old or the new, never half of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.wire import durable

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
    durable.write(path, data, mode, _new(path))


def link(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, whatever file or link it was. Raises OSError."""
    durable.link(path, target, _new(path))


def remove(path: Path) -> None:
    """Deletes a file if it is there. Raises OSError."""
    if path.exists() or path.is_symlink():
        path.unlink()
        durable.sync_folder(path.parent)


def remove_tree(path: Path) -> None:
    """Deletes a folder with all in it, or a link or file of that name. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _new(path: Path) -> Path:
    """What `path` is called until it is whole; the one of an earlier try is gone then."""
    new = path.with_name(path.name + TEMPORARY)
    new.unlink(missing_ok=True)
    return new
