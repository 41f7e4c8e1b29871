"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from edge_agent.wire.errors import StoreError


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, whose folder is made where it is missing. Only one process may write it at a time.

    Raises:
        StoreError: it cannot be written; what was there before is as it was.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): choose another folder or free space") from error
