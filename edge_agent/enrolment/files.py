"""Small files that are replaced as a whole, in a folder whose owner they get, whoever writes them."""

from __future__ import annotations

from pathlib import Path

from edge_agent.wire import durable
from edge_agent.wire.errors import StoreError

PRIVATE, PUBLIC, PRIVATE_FOLDER = 0o600, 0o644, 0o700


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replaces `path`: whoever reads it meanwhile gets the old content or the new, also after a loss of power.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        durable.write(path, data, mode)
    except OSError as error:
        raise _failed(path, error) from error


def link(path: Path, target: str) -> None:
    """Has `path` point to `target`, at one moment.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        durable.link(path, target)
    except OSError as error:
        raise _failed(path, error) from error


def make_folder(path: Path) -> None:
    """Makes `path`, its owner's alone, where it is missing.

    Raises:
        StoreError: it cannot be made.
    """
    try:
        if not path.exists():
            path.mkdir(parents=True, mode=PRIVATE_FOLDER)
            durable.give(path)
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error.strerror or error}; check its folder's owner and free space")
