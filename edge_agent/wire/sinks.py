"""Where the chunks of a pulled object go."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .errors import PayloadError, StoreError
from .messages import ObjectRef
from .pace import LEAST_CHUNK_BYTES

MEMORY_LIMIT_BYTES = 64 * 2**20
_BITMAP_HEAD = struct.Struct(">32sQQ")
_READ_BYTES = 2**20


class Sink(Protocol):
    """Takes one object in chunks of whole blocks of `LEAST_CHUNK_BYTES`, the last one shorter."""

    def open(self, ref: ObjectRef) -> bytearray:
        """Prepares for `ref`; a byte for each of its blocks, which is not zero if the block is here already."""

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Keeps one chunk."""

    def sha256(self) -> bytes:
        """Hash of the object, once every chunk is here."""

    def complete(self) -> None:
        """The object is verified: makes it available."""

    def discard(self) -> None:
        """The object is not what it should be: forgets all of it."""


class MemorySink:
    """Into memory, up to `limit_bytes`: `data` is the object once it is complete."""

    def __init__(self, limit_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        self.data = b""
        self._limit_bytes = limit_bytes
        self._buffer = bytearray()

    def open(self, ref: ObjectRef) -> bytearray:
        """Makes room for `ref`; nothing is here yet.

        Raises:
            PayloadError: it is larger than the limit.
        """
        if ref.size_bytes > self._limit_bytes:
            raise PayloadError(f"a {ref.kind} may have {self._limit_bytes} bytes, {ref.size_bytes} are offered")
        self._buffer = bytearray(ref.size_bytes)
        return bytearray(_blocks_of(ref))

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Keeps one chunk."""
        self._buffer[offset_bytes : offset_bytes + len(data)] = data

    def sha256(self) -> bytes:
        """Hash of the object."""
        return hashlib.sha256(self._buffer).digest()

    def complete(self) -> None:
        """Makes the object available as `data`."""
        self.data = bytes(self._buffer)
        self._buffer = bytearray()

    def discard(self) -> None:
        """Forgets the object."""
        self._buffer = bytearray()


class FileSink:
    """Into a file, so that the transfer goes on where it was after a restart of the process.

    The chunks lie in `path.part`; `path.bitmap` beside it says what they belong to and has a byte for each block,
    written after the chunk itself. Should a power cut keep the byte and lose the chunk, the sha256 tells, and the
    object is pulled afresh. `complete` renames the part, flushed to the disk, to `path`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        self._bitmap = path.with_name(path.name + ".bitmap")
        self._ref = ObjectRef("nothing", bytes(32), 0)

    def open(self, ref: ObjectRef) -> bytearray:
        """Resumes `ref`, or prepares for it.

        Raises:
            StoreError: the disk has no room for what is missing of the object, or cannot be written.
        """
        self._ref = ref
        with self._errors():
            if not self._may_resume():
                self._prepare()
            marks = bytearray(self._marks())
            self._check_room(min(ref.size_bytes, marks.count(0) * LEAST_CHUNK_BYTES))
        return marks

    def write(self, offset_bytes: int, data: bytes) -> None:
        """Keeps one chunk.

        Raises:
            StoreError: the disk is full or cannot be written; earlier chunks are kept.
        """
        with self._errors():
            _write_at(self._part, offset_bytes, data)
            marks = b"\x01" * -(-len(data) // LEAST_CHUNK_BYTES)
            _write_at(self._bitmap, _BITMAP_HEAD.size + offset_bytes // LEAST_CHUNK_BYTES, marks)

    def sha256(self) -> bytes:
        """Hash of the object.

        Raises:
            StoreError: it cannot be read.
        """
        digest = hashlib.sha256()
        with self._errors(), self._part.open("rb") as file:
            for block in _blocks(file.read):
                digest.update(block)
        return digest.digest()

    def complete(self) -> None:
        """Puts the object where it belongs, on the disk and not only in its cache.

        Raises:
            StoreError: the disk is full or cannot be written.
        """
        with self._errors():
            _flush(self._part, os.O_RDWR)
            self._part.replace(self.path)
            _flush(self.path.parent, os.O_RDONLY)
            self._bitmap.unlink(missing_ok=True)

    def discard(self) -> None:
        """Removes what came.

        Raises:
            StoreError: the disk cannot be written.
        """
        with self._errors():
            self._bitmap.unlink(missing_ok=True)
            self._part.unlink(missing_ok=True)

    def _may_resume(self) -> bool:
        """Whether both files are of this object and of blocks of the same size."""
        if not (self._part.is_file() and self._bitmap.is_file()):
            return False
        if self._part.stat().st_size != self._ref.size_bytes:
            return False
        return self._bitmap.read_bytes()[: _BITMAP_HEAD.size] == self._head() and (
            len(self._marks()) == _blocks_of(self._ref)
        )

    def _prepare(self) -> None:
        """The part first: a bitmap must never speak of another part."""
        self._bitmap.unlink(missing_ok=True)
        with self._part.open("wb") as file:
            file.truncate(self._ref.size_bytes)
        self._bitmap.write_bytes(self._head() + bytes(_blocks_of(self._ref)))

    def _head(self) -> bytes:
        return _BITMAP_HEAD.pack(self._ref.sha256, self._ref.size_bytes, LEAST_CHUNK_BYTES)

    def _marks(self) -> bytes:
        return self._bitmap.read_bytes()[_BITMAP_HEAD.size :]

    def _check_room(self, needed_bytes: int) -> None:
        free_bytes = _free_bytes(self._part.parent)
        if needed_bytes > free_bytes:
            raise StoreError(f"{self.path}: {_room(needed_bytes, free_bytes)}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns the system's errors into ours; a full disk says how much is needed."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror or error}; {self._room()}") from error

    def _room(self) -> str:
        try:
            free_bytes = _free_bytes(self.path.parent)
            missing_blocks = self._marks().count(0)
        except OSError as error:
            return f"{self._ref.size_bytes} bytes are needed, and the disk does not tell what is free ({error})"
        return _room(min(self._ref.size_bytes, missing_blocks * LEAST_CHUNK_BYTES), free_bytes)


def _free_bytes(folder: Path) -> int:
    """What `shutil.disk_usage` tells; that module takes archivers along, and the supervisor 0.6 MB."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _room(needed_bytes: int, free_bytes: int) -> str:
    return (
        f"{needed_bytes} bytes are still needed and the disk has {free_bytes} free; what came is kept: make room and "
        "start again"
    )


def _blocks_of(ref: ObjectRef) -> int:
    return -(-ref.size_bytes // LEAST_CHUNK_BYTES)


def _blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while block := read(_READ_BYTES):
        yield block


def _write_at(path: Path, offset_bytes: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset_bytes)
        file.write(data)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
