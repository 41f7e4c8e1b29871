"""The frozen prefix: what blocks below the trained ones make of the local examples, computed once and kept on disk.

Where pruning or the plan left the lowest blocks without trained ranks, their output for an example is the same at every
step of a round, and in every round that leaves their ranks as they are. It is kept as float32, one file for all
examples: float16 would halve the disk and change the gradients (docs/memory.md says by how much).

The file's name is a digest of all that the states depend on, so those of another model are never found, and are
removed. It is read and written, not mapped: where a disk is full or a file was cut short, a map kills the process. Each
example's states have a checksum; what is missing, damaged, or beyond the limit is computed again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.engine.protocol import Batch, Engine, Float32, Prefix
from edge_agent.examples import Tokens
from edge_agent.wire.ranks import Layout, Rows

LOGGER = logging.getLogger("rankfleet.trainer")
_NUMBER = np.dtype("<f4")
_CHECKSUM_BYTES = 4


class PrefixCache:
    """States `(tokens, d_model)` of examples by place, in the file `key` of `folder`, of which `limit_bytes` are used.

    `lengths` are the tokens of the examples. Those that lie beyond the limit are never kept. Files of other keys in the
    folder are removed. A folder that cannot be used leaves a cache that keeps nothing.
    """

    def __init__(self, folder: Path, key: str, lengths: Sequence[int], d_model: int, limit_bytes: int) -> None:
        self._d_model = d_model
        self._sizes = [_CHECKSUM_BYTES + tokens * d_model * _NUMBER.itemsize for tokens in lengths]
        self._ends = np.cumsum(self._sizes, dtype=np.int64).tolist()
        self._limit_bytes = limit_bytes
        self._file: int | None = None
        try:
            self._file = _open(folder, key)
        except OSError as error:
            self._give_up(f"{folder} cannot be used ({error.strerror})")

    def read(self, place: int) -> Float32 | None:
        """The states of the example, or None where they are not kept, or not as they were written."""
        if self._file is None or self._ends[place] > self._limit_bytes:
            return None
        size = self._sizes[place]
        try:
            data = os.pread(self._file, size, self._ends[place] - size)
        except OSError as error:
            self._give_up(f"it cannot be read ({error.strerror})")
            return None
        body = data[_CHECKSUM_BYTES:]
        if len(data) != size or data[:_CHECKSUM_BYTES] != _checksum(body):
            return None
        return np.frombuffer(body, _NUMBER).reshape(-1, self._d_model)

    def write(self, place: int, states: Float32) -> None:
        """Keeps the states of the example, if the limit and the disk have room for them."""
        if self._file is None or self._ends[place] > self._limit_bytes:
            return
        body = states.astype(_NUMBER).tobytes()
        try:
            os.pwrite(self._file, _checksum(body) + body, self._ends[place] - self._sizes[place])
        except OSError as error:
            self._give_up(f"it cannot be written ({error.strerror})")

    def close(self) -> None:
        """Ends the use of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _give_up(self, why: str) -> None:
        LOGGER.warning("the frozen prefix is computed at every step, not kept: %s", why)
        self.close()


@dataclass(frozen=True)
class FrozenPrefix:
    """Gives batches the states before `block`, from the cache or computed with the living rows `rows` and then kept."""

    engine: Engine
    rows: Rows
    block: int
    micro_batch: int
    cache: PrefixCache

    def of(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        """`batch`, made of the examples at the places `chosen`, with its prefix."""
        known = [self.cache.read(place) for place in chosen]
        missing = [index for index, states in enumerate(known) if states is None]
        if missing:
            some = Batch(batch.input_ids[missing], batch.attention_mask[missing])
            computed = self.engine.hidden(some, self.rows, blocks=self.block, micro_batch=self.micro_batch)
            for index, padded in zip(missing, computed, strict=True):
                states = padded[: batch.attention_mask[index].sum()]
                self.cache.write(chosen[index], states)
                known[index] = states
        return Batch(batch.input_ids, batch.attention_mask, batch.labels, Prefix(self.block, _padded(batch, known)))


def key_of(computed_by: bytes, scale: float, layout: Layout, rows: Rows, block: int, tokens: Tokens) -> str:
    """A digest of all that the states before `block` depend on: pack and engine (`computed_by`), living ranks below,
    and the examples' tokens."""
    digest = hashlib.sha256(computed_by)
    digest.update(np.array([scale, block, len(tokens)], "<f8").tobytes())
    for module in layout.modules:
        if module.block < block:
            digest.update(np.array(rows[module.name].shape, "<i8").tobytes())
            digest.update(np.ascontiguousarray(rows[module.name], "<f4").tobytes())
    for ids in tokens.ids:
        digest.update(np.array(len(ids), "<i8").tobytes() + ids.astype("<i4").tobytes())
    return digest.hexdigest()


def pays(layout: Layout, rows: Rows, block: int, *, examples: int, seen: int) -> bool:
    """Whether states before `block` are used again: `seen` examples in this round are more than there are, or no rank
    lives below, so that later rounds find them too."""
    living = any(len(rows[module.name]) for module in layout.modules if module.block < block)
    return block > 0 and (seen > examples or not living)


def _open(folder: Path, key: str) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name != key:
            path.unlink()
    return os.open(folder / key, os.O_RDWR | os.O_CREAT, 0o600)


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body, 1).to_bytes(_CHECKSUM_BYTES, "little")


def _padded(batch: Batch, states: Sequence[Float32 | None]) -> Float32:
    """The states of all examples, zeros for padding."""
    found: list[npt.NDArray[np.float32]] = [one for one in states if one is not None]
    hidden = np.zeros((*batch.input_ids.shape, found[0].shape[1]), np.float32)
    for row, one in zip(hidden, found, strict=True):
        row[: len(one)] = one
    return hidden
