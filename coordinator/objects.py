"""What devices may pull: the pack's files, and the deltas and snapshots of the model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.pack import MANIFEST, verify
from edge_agent.wire.transfer import BytesSource, FileSource, Source

FEW_DELTAS = 3
"""So many deltas are never more than a snapshot, which holds all values in float32."""


class Objects:
    """Everything that can be asked for, by its hash."""

    def __init__(self, pack_dir: Path, store: Store) -> None:
        self._store = store
        self._files = _pack_files(pack_dir)
        self._snapshot: tuple[bytes, bytes] | None = None
        path = pack_dir / MANIFEST
        self.manifest = m.ObjectRef("manifest", _sha256(path), path.stat().st_size)
        self._files[self.manifest.sha256] = path

    def find(self, sha256: bytes) -> Source | None:
        """The object with this hash, or None."""
        if sha256 in self._files:
            return FileSource(self._files[sha256])
        if self._snapshot is not None and self._snapshot[0] == sha256:
            return BytesSource(self._snapshot[1])
        body = self._store.delta_body(sha256)
        return None if body is None else BytesSource(body)

    def path_from(self, version: int, make_snapshot: Callable[[], bytes]) -> tuple[m.ObjectRef, ...]:
        """What brings a device from `version` to the present state: its deltas, or the snapshot if that is less."""
        deltas = tuple(
            m.ObjectRef("delta", sha256, size_bytes) for _, sha256, size_bytes in self._store.delta_sizes(version)
        )
        if len(deltas) < FEW_DELTAS:
            return deltas
        snapshot = make_snapshot()
        if sum(ref.size_bytes for ref in deltas) <= len(snapshot):
            return deltas
        self._snapshot = hashlib.sha256(snapshot).digest(), snapshot
        return (m.ObjectRef("snapshot", self._snapshot[0], len(snapshot)),)


def _pack_files(pack_dir: Path) -> dict[bytes, Path]:
    return {bytes.fromhex(entry.sha256): pack_dir / name for name, entry in verify(pack_dir).files.items()}


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
