"""Brings packs and other objects from the coordinator to disk, resuming where an earlier attempt ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent import session_events as events
from edge_agent.wire import messages as m
from edge_agent.wire import pack
from edge_agent.wire.errors import FetchError, StoreError, WireError
from edge_agent.wire.pull import Puller
from edge_agent.wire.transfer import FileSink

MANIFEST_LIMIT_BYTES = 4 * 2**20
OBJECT_LIMIT_BYTES = 2**30
ATTEMPTS = 3
"""An object that so many times was not what its hash says is damaged where it comes from."""


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
        """Rate of the last pack transfer; of a short one, rather of its latency."""

    def pack_dir(self, manifest_sha256: bytes) -> Path:
        """Where the pack with this manifest lies, or will."""
        return self._packs / manifest_sha256.hex()[:16]

    def object_path(self, sha256: bytes) -> Path:
        """Where the object with this hash lies, or will."""
        return self._objects / sha256.hex()

    def start_pack(self, manifest: m.ObjectRef) -> None:
        """Begins to fetch a pack: its manifest, then whatever of its files is not here yet. Raises as `start`.

        The manifest is small, and comes even if it is here: so the link is measured at every start.
        """
        self._puller.clear()
        self._pack, self._manifest_read = manifest, False
        self._started_s, self._pulled_bytes = time.monotonic(), 0
        self._add(manifest, self.pack_dir(manifest.sha256) / pack.MANIFEST, MANIFEST_LIMIT_BYTES)

    def start(self, refs: tuple[m.ObjectRef, ...]) -> None:
        """Begins to fetch objects; those on disk already are not asked for.

        Raises:
            FetchError: an object is larger than any can be.
            StoreError: the state folder cannot be used.
        """
        self._puller.clear()
        self._pack = None
        self._drop_others(refs)
        for ref in refs:
            self._want(ref, self.object_path(ref.sha256))

    def interrupted(self) -> None:
        """The connection was lost: what was on its way is asked for again."""
        self._puller.interrupted()

    def poll(self, limit_bytes: int, now_s: float) -> tuple[m.Want | None, events.Event | None]:
        """What to ask the coordinator for, in chunks of at most `limit_bytes`, and what is complete.

        Raises as `take`, and `PackError`.
        """
        if self._puller.busy:
            with self._refusing_after_attempts():
                return self._puller.poll(limit_bytes, now_s), None
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
            FetchError: so it did every time.
            StoreError: the disk is full; what came is kept.
        """
        self._pulled_bytes += len(chunk.data)
        with self._refusing_after_attempts():
            self._puller.take(chunk, now_s)

    def missing(self, sha256: bytes) -> events.Event | None:
        """The coordinator no longer has an object."""
        if not self._puller.wants(sha256):
            return None
        self._puller.clear()
        return events.FetchFailed()

    def _want(self, ref: m.ObjectRef, path: Path) -> None:
        """Asks for an object unless it is on disk, whole and unaltered."""
        with _reported(path):
            same_size = path.exists() and path.stat().st_size == ref.size_bytes
            if same_size and pack.file_sha256(path) == ref.sha256.hex():
                return
        self._add(ref, path, OBJECT_LIMIT_BYTES)

    def _add(self, ref: m.ObjectRef, path: Path, limit_bytes: int) -> None:
        if ref.size_bytes > limit_bytes:
            raise FetchError(f"a {ref.kind} has at most {limit_bytes} bytes, the coordinator offers {ref.size_bytes}")
        with _reported(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._puller.add(ref, FileSink(path))

    def _want_files(self, manifest: m.ObjectRef) -> None:
        folder = self.pack_dir(manifest.sha256)
        for name, entry in pack.load_manifest(folder).files.items():
            ref = m.ObjectRef("pack-file", bytes.fromhex(entry.sha256), entry.size_bytes)
            self._want(ref, folder / name)
        self._manifest_read = True

    def _measure_link(self) -> None:
        elapsed_s = time.monotonic() - self._started_s
        self.link_bytes_per_s = max(1, round(self._pulled_bytes / max(elapsed_s, 1e-6)))

    def _drop_others(self, refs: tuple[m.ObjectRef, ...]) -> None:
        """Deltas are applied once: those of earlier rounds only take up room."""
        wanted = {ref.sha256.hex() for ref in refs}
        with _reported(self._objects):
            for path in self._objects.iterdir() if self._objects.exists() else ():
                if path.name.split(".")[0] not in wanted:
                    path.unlink()

    @contextmanager
    def _refusing_after_attempts(self) -> Iterator[None]:
        try:
            yield
        except WireError as error:
            if self._puller.mismatches < ATTEMPTS:
                raise
            raise FetchError(f"{error}, {ATTEMPTS} times in a row: the coordinator's copy is damaged") from error


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path} cannot be used ({error}): check the permissions of the state folder") from error
