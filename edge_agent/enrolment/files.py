"""Small files that are replaced as a whole, in a folder whose owner they get, whoever writes them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from edge_agent.wire.errors import StoreError

PRIVATE, PUBLIC, PRIVATE_FOLDER = 0o600, 0o644, 0o700


def write(path: Path, data: bytes, mode: int = PUBLIC) -> None:
    """Replaces `path`: whoever reads it meanwhile gets the old content or the new, also after a loss of power.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                os.fchmod(file.fileno(), mode)  # whatever the umask
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            give(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise _failed(path, error) from error


def link(path: Path, target: str) -> None:
    """Has `path` point to `target`, at one moment.

    Raises:
        StoreError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        part.symlink_to(target)
        give(part)
        part.replace(path)
        sync_folder(path.parent)
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
            give(path)
    except OSError as error:
        raise _failed(path, error) from error


def give(path: Path) -> None:
    """To the owner of the folder around it, where root made it: updates run as root, the agent does not."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.lchown(path, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Has the names in `folder` on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be written: {error.strerror or error}; check its folder's owner and free space")
