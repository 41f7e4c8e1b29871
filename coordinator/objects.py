"""What devices may pull: the pack's files, and the deltas and snapshots of the model."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.pack import MANIFEST, verify
from edge_agent.wire.state import ModelState
from edge_agent.wire.transfer import BytesSource, FileSource, Source


class _Snapshot(NamedTuple):
    version: int
    ref: m.ObjectRef
    body: bytes


class Objects:
    """Everything that can be asked for, by its hash.

    Raises:
        PackError: the pack is incomplete or altered.
    """

    def __init__(self, pack_dir: Path, store: Store) -> None:
        self._store = store
        self._files = _pack_files(pack_dir)
        self._snapshot: _Snapshot | None = None
        path = pack_dir / MANIFEST
        self.manifest = m.ObjectRef("manifest", _sha256(path), path.stat().st_size)
        self._files[self.manifest.sha256] = path

    def find(self, sha256: bytes) -> Source | None:
        """The object with this hash, or None."""
        if sha256 in self._files:
            return FileSource(self._files[sha256])
        if self._snapshot is not None and self._snapshot.ref.sha256 == sha256:
            return BytesSource(self._snapshot.body)
        body = self._store.delta_body(sha256)
        return None if body is None else BytesSource(body)

    def path_from(self, version: int, state: ModelState) -> tuple[m.ObjectRef, ...]:
        """What brings a device from `version` to `state`: the deltas, or the snapshot if that is less."""
        sizes = self._store.delta_sizes(version)
        deltas = tuple(m.ObjectRef("delta", sha256, size_bytes) for _, sha256, size_bytes in sizes)
        whole = len(deltas) == state.version - version  # a damaged one was dropped
        if whole and len(deltas) <= 1:  # one delta holds no row that the snapshot lacks
            return deltas
        snapshot = self._snapshot_of(state)
        less = sum(ref.size_bytes for ref in deltas) <= snapshot.size_bytes
        return deltas if whole and less else (snapshot,)

    def _snapshot_of(self, state: ModelState) -> m.ObjectRef:
        """The snapshot of `state`, made once; the one before it is no longer served."""
        if self._snapshot is None or self._snapshot.version != state.version:
            body = states.to_bytes(state)
            ref = m.ObjectRef("snapshot", hashlib.sha256(body).digest(), len(body))
            self._snapshot = _Snapshot(state.version, ref, body)
        return self._snapshot.ref


def _pack_files(pack_dir: Path) -> dict[bytes, Path]:
    return {bytes.fromhex(entry.sha256): pack_dir / name for name, entry in verify(pack_dir).files.items()}


def _sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()
