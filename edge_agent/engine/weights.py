"""The frozen weights of a pack, memory-mapped; float32 one block at a time."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import WEIGHTS, Manifest

from .protocol import Float32


class WeightMap:
    """The tensors of `weights.bin`.

    Pages come in when they are read and leave the process when their section is released: they are the kernel's to
    take back at any time, and cost no anonymous memory.

    Raises:
        PackError: a file that cannot be mapped, or that is not the one that the manifest describes.
    """

    def __init__(self, pack_dir: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self._file, self._map = _open(pack_dir / WEIGHTS, manifest)
        self._arrays = {name: self._view(name) for name in manifest.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def tensor(self, name: str, out: Float32 | None = None) -> Float32:
        """A tensor expanded to float32, into `out` if given. Copies."""
        stored, scale = self._stored(name)
        out = np.empty(stored.shape, np.float32) if out is None else out
        if scale is None:
            np.copyto(out, stored)
        else:
            np.multiply(stored, scale, out=out)
        return out

    def gather(self, name: str, indices: npt.NDArray[np.integer]) -> Float32:
        """The rows `indices` of a table in float32, `(*indices.shape, width)`.

        Rows are read from the file: through the map, a kernel may bring in 2 MiB around each of them.

        Raises:
            PackError: the file cannot be read.
        """
        stored, scale = self._stored(name)
        read = b"".join(self._read(name, int(row), 1) for row in indices.reshape(-1))
        rows = np.frombuffer(read, stored.dtype).reshape(*indices.shape, -1).astype(np.float32)
        if scale is not None:
            rows *= scale[indices]
        return rows

    def rows(self, name: str, start: int, stop: int) -> Float32:
        """The rows from `start` to `stop` of a table in float32, `(stop - start, width)`, read like those of `gather`.

        Raises:
            PackError: as `gather`.
        """
        stored, scale = self._stored(name)
        read = self._read(name, start, stop - start)
        rows = np.frombuffer(read, stored.dtype).reshape(stop - start, -1).astype(np.float32)
        if scale is not None:
            rows *= scale[start:stop]
        return rows

    def mapped(self, index: int, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """The tensors of one block by local name, as they lie in the map, each followed by its scale if it has one."""
        found = {}
        for name in names:
            stored, scale = self._stored(f"block.{index}.{name}")
            found[name] = stored
            if scale is not None:
                found[f"{name}.scale"] = scale
        return found

    def release(self, section: str) -> None:
        """Gives the pages of a section back to the system; they come in again when they are read."""
        entries = [entry for name, entry in self._manifest.tensors.items() if name.startswith(f"{section}.")]
        start = min(entry.offset for entry in entries) // mmap.PAGESIZE * mmap.PAGESIZE
        end = max(entry.offset + entry.size_bytes for entry in entries)
        self._map.madvise(mmap.MADV_DONTNEED, start, end - start)

    def _stored(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
        """A tensor as mapped, and its scale if it has one."""
        scale = self._manifest.tensors[name].scale if name in self else None
        missing = {name, *([scale] if scale else [])} - self._arrays.keys()
        if missing:
            raise PackError(f"the pack has no tensor {sorted(missing)}: build it again")
        return self._arrays[name], self._arrays[scale] if scale else None

    def _read(self, name: str, start: int, count: int) -> bytes:
        row_bytes = self._arrays[name].strides[0]
        offset = self._manifest.tensors[name].offset + start * row_bytes
        try:
            return os.pread(self._file.fileno(), count * row_bytes, offset)
        except OSError as error:
            raise PackError(f"{self._file.name} cannot be read ({error.strerror}): get the pack again") from error

    def _view(self, name: str) -> npt.NDArray[Any]:
        entry = self._manifest.tensors[name]
        dtype, count = np.dtype(entry.dtype).newbyteorder("<"), math.prod(entry.shape)
        if count * dtype.itemsize != entry.size_bytes or entry.offset + entry.size_bytes > len(self._map):
            raise PackError(f"tensor {name!r} does not lie within {WEIGHTS} as its shape says: get the pack again")
        try:
            return np.frombuffer(self._map, dtype, count, entry.offset).reshape(entry.shape)
        except ValueError as error:
            raise PackError(f"tensor {name!r} has an impossible shape ({error}): get the pack again") from error


def _open(path: Path, manifest: Manifest) -> tuple[BinaryIO, mmap.mmap]:
    """Opens and maps the file. Its size is compared: reading behind the end of a map kills the process."""
    expected_bytes = manifest.files[WEIGHTS].size_bytes
    try:
        file = path.open("rb")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be mapped ({error}): get the pack again") from error
    if len(mapped) != expected_bytes:
        raise PackError(f"{path} should have {expected_bytes} bytes, has {len(mapped)}: get the pack again")
    return file, mapped
