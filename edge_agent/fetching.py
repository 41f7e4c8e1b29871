"""Brings packs and other objects from the coordinator to disk, resuming where an earlier attempt ended."""

from __future__ import annotations

import time
from pathlib import Path

from edge_agent import session_events as events
from edge_agent.wire import messages as m
from edge_agent.wire import pack
from edge_agent.wire.errors import PackError, PayloadError
from edge_agent.wire.pull import Puller
from edge_agent.wire.transfer import FileSink

MANIFEST_LIMIT_BYTES = 4 * 2**20
OBJECT_LIMIT_BYTES = 2**30


class Fetcher:
    """One fetch at a time: a pack, or the objects of a plan. `poll` and `take` give the session's events."""

    def __init__(self, state_dir: Path) -> None:
        self._packs = state_dir / "packs"
        self._objects = state_dir / "objects"
        self._puller = Puller()
        self._pack: m.ObjectRef | None = None
        self._manifest_read = False
        self._started_s = 0.0
        self._pulled_bytes = 0
        self.link_bytes_per_s: int | None = None
        """Rate of the last pack transfer."""

    def pack_dir(self, manifest_sha256: bytes) -> Path:
        """Where the pack with this manifest lies, or will."""
        return self._packs / manifest_sha256.hex()[:16]

    def object_path(self, sha256: bytes) -> Path:
        """Where the object with this hash lies, or will."""
        return self._objects / sha256.hex()

    def start_pack(self, manifest: m.ObjectRef) -> None:
        """Begins to fetch a pack: its manifest, then whatever of its files is not here yet."""
        self._puller.clear()
        self._pack, self._manifest_read = manifest, False
        self._started_s, self._pulled_bytes = time.monotonic(), 0
        self._want(manifest, self.pack_dir(manifest.sha256) / pack.MANIFEST, MANIFEST_LIMIT_BYTES)

    def start(self, refs: tuple[m.ObjectRef, ...]) -> None:
        """Begins to fetch objects; those on disk already are not asked for."""
        self._puller.clear()
        self._pack = None
        self._drop_others(refs)
        for ref in refs:
            if not self.object_path(ref.sha256).exists():
                self._want(ref, self.object_path(ref.sha256), OBJECT_LIMIT_BYTES)

    def poll(self, chunk_bytes: int, now_s: float) -> tuple[m.Want | None, events.Event | None]:
        """What to ask the coordinator for, and what is complete."""
        if self._puller.busy:
            return self._puller.poll(chunk_bytes, now_s), None
        if self._pack is None:
            return None, events.Fetched()
        if not self._manifest_read:
            self._want_files(self._pack)
            return None, None
        self._measure_link()
        pack.verify(self.pack_dir(self._pack.sha256))
        return None, events.PackReady()

    def take(self, chunk: m.Chunk, now_s: float) -> None:
        """Books a chunk; one that nobody asked for is ignored.

        Raises:
            PayloadError: the object turned out to be another than its hash says; it is pulled afresh.
            StoreError: the disk is full; what came is kept.
        """
        self._pulled_bytes += len(chunk.data)
        self._puller.take(chunk, now_s)

    def missing(self, sha256: bytes) -> events.Event | None:
        """The coordinator no longer has an object."""
        if not self._puller.wants(sha256):
            return None
        self._puller.clear()
        return events.FetchFailed()

    def _want(self, ref: m.ObjectRef, path: Path, limit_bytes: int) -> None:
        if ref.size_bytes > limit_bytes:
            raise PayloadError(f"a {ref.kind} has at most {limit_bytes} bytes, the coordinator offers {ref.size_bytes}")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._puller.add(ref, FileSink(path))

    def _want_files(self, manifest_ref: m.ObjectRef) -> None:
        folder = self.pack_dir(manifest_ref.sha256)
        if pack.file_sha256(folder / pack.MANIFEST) != manifest_ref.sha256.hex():
            raise PackError(f"{folder / pack.MANIFEST} is not the manifest that the fleet uses: delete {folder}")
        for name, entry in pack.load_manifest(folder).files.items():
            path = folder / name
            if path.exists() and path.stat().st_size == entry.size_bytes and pack.file_sha256(path) == entry.sha256:
                continue
            ref = m.ObjectRef("pack-file", bytes.fromhex(entry.sha256), entry.size_bytes)
            self._want(ref, path, OBJECT_LIMIT_BYTES)
        self._manifest_read = True

    def _measure_link(self) -> None:
        elapsed_s = time.monotonic() - self._started_s
        if self._pulled_bytes:
            self.link_bytes_per_s = max(1, round(self._pulled_bytes / max(elapsed_s, 1e-6)))

    def _drop_others(self, refs: tuple[m.ObjectRef, ...]) -> None:
        """Deltas are applied once: those of earlier rounds only take up room."""
        wanted = {ref.sha256.hex() for ref in refs}
        if self._objects.exists():
            for path in self._objects.iterdir():
                if path.name.split(".")[0] not in wanted:
                    path.unlink()
