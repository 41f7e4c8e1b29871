"""Where the bytes of a served object come from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from .errors import StoreError


class Source(Protocol):
    """An object of `size_bytes` that can be read anywhere."""

    @property
    def size_bytes(self) -> int:
        """Size of the object."""

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Exactly `size_bytes` from `offset_bytes` on."""


class BytesSource:
    """An object in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size_bytes(self) -> int:
        """Size of the object."""
        return len(self._data)

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Exactly `size_bytes` from `offset_bytes` on."""
        return self._data[offset_bytes : offset_bytes + size_bytes]


class FileSource:
    """An object on disk, as long as it was when this was made.

    Raises:
        StoreError: the file is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._size_bytes = path.stat().st_size
        except OSError as error:
            raise StoreError(f"cannot serve {path}: {error}") from error

    @property
    def size_bytes(self) -> int:
        """Size of the object."""
        return self._size_bytes

    def read(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Exactly `size_bytes` from `offset_bytes` on.

        Raises:
            StoreError: the file cannot be read, or has become shorter.
        """
        try:
            with self._path.open("rb") as file:
                file.seek(offset_bytes)
                data = file.read(size_bytes)
        except OSError as error:
            raise StoreError(f"cannot serve {self._path}: {error}") from error
        if len(data) != size_bytes:
            raise StoreError(f"cannot serve {self._path}: it had {self._size_bytes} bytes and became shorter")
        return data
