"""What boards may fetch from the gateway: agent bundles and packs in one folder, each a tar file."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path
from typing import BinaryIO

import msgspec

from edge_agent.wire.errors import EnrolmentError, StoreError

PIECE_BYTES = 2**20

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,122}\.tar")
_AGENT = re.compile(r"rankfleet-agent-(?P<version>[^-]+)-(?P<machine>[A-Za-z0-9_]+)-cp3(?P<minor>\d+)\.tar")


class Bundle(msgspec.Struct, frozen=True):
    """An agent bundle: `machine` as `platform.machine()`, `python` as `3.11`."""

    name: str
    sha256: str
    bytes: int
    version: str
    machine: str
    python: str


class Shelf:
    """The folder `releases`. A file's checksum is computed once, and again when the file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}

    def bundles(self) -> list[Bundle]:
        """The agent bundles, by name.

        Raises:
            StoreError: the folder or a file cannot be read.
        """
        found = []
        try:
            for path in sorted(self._folder.glob("*.tar")):
                named = _AGENT.fullmatch(path.name)
                if named is not None and path.is_file():
                    size_bytes, python = path.stat().st_size, f"3.{named['minor']}"
                    bundle = Bundle(
                        path.name, self._sha256(path), size_bytes, named["version"], named["machine"], python
                    )
                    found.append(bundle)
        except OSError as error:
            raise StoreError(f"{self._folder} cannot be read: {error}; check its permissions") from error
        return found

    def path(self, name: str) -> Path:
        """Where the file of this name is.

        Raises:
            EnrolmentError: there is none.
        """
        path = self._folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise EnrolmentError(f"this gateway has no bundle {name[:128]!r}: see /v1/bundles", 404)
        return path

    def _sha256(self, path: Path) -> str:
        found = path.stat()
        version = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._known.get(path.name)
            if known is None or known[0] != version:
                with path.open("rb") as file:
                    known = (version, _digest(file))
                self._known[path.name] = known
        return known[1]


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
