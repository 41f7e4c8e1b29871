"""Files and links that are replaced as a whole: whoever reads, and a loss of power, finds the old or the new.

What root writes belongs to the owner of the folder that it lies in: updates run as root, the agent does not. All of it
raises OSError. Python alone is enough: a bare board runs it.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o644, part: Path | None = None) -> None:
    """Puts a file with `data` in the place of `path`, whatever the umask. `part` is its name until then; a name
    of its own unless it is given, so that several may write at once."""
    part = part or _part(path)
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _take_place(part, path)
    finally:
        part.unlink(missing_ok=True)


def link(path: Path, target: Path | str, part: Path | None = None) -> None:
    """Makes `path` a symbolic link to `target`, whatever file or link it was; `part` as for `write`."""
    part = part or _part(path)
    part.symlink_to(target)
    _take_place(part, path)


def give(path: Path) -> None:
    """To the owner of the folder around it, where root made it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.lchown(path, owner.st_uid, owner.st_gid)


def sync_folder(folder: Path) -> None:
    """Brings the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")


def _take_place(part: Path, path: Path) -> None:
    give(part)
    part.replace(path)
    sync_folder(path.parent)
