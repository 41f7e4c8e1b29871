"""Writes `weights.bin`: quantised, aligned, in sections that can be given back to the system one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from edge_agent.wire.pack import ALIGNMENT_BYTES, SECTION_BYTES, TensorEntry

from .architectures.parts import Parts

WeightsType = Literal["int8", "fp16", "fp32"]
Array = npt.NDArray[np.generic]

_BY_ROW = frozenset({"embedding", "output"})
_EXACT = frozenset({"context"})
"""Sections that are added to every block's scores, or turn them: small, and their errors would add up."""
_INT8_MOST = 127
_SMALLEST_NORMAL = np.finfo(np.float32).smallest_normal


class Stored(NamedTuple):
    """A tensor as it is stored, with the scale that an int8 one is multiplied with."""

    values: Array
    scale: npt.NDArray[np.float32] | None


def sections(parts: Parts) -> dict[str, dict[str, Tensor]]:
    """All tensors of a model by section; a tensor's full name is `<section>.<name>`."""
    blocks = {f"block.{index}": tensors for index, tensors in enumerate(parts.blocks)}
    after = {"final": parts.final, "pooler": parts.pooler, "output": parts.output}
    named = {"embedding": parts.embeddings, "context": parts.context, **blocks, **after}
    return {section: tensors for section, tensors in named.items() if tensors}


def write_tensors(path: Path, parts: Parts, weights: WeightsType) -> dict[str, TensorEntry]:
    """Writes every tensor and returns the table of where they lie."""
    table: dict[str, TensorEntry] = {}
    with path.open("wb") as file:
        for section, tensors in sections(parts).items():
            for name, stored in _stored(section, tensors, weights):
                _write(file, table, f"{section}.{name}", stored)
            _pad(file, SECTION_BYTES)
    return table


def largest_section_bytes(parts: Parts, table: Mapping[str, TensorEntry]) -> int:
    """See `Manifest.mapped_working_set_bytes`."""
    sizes = {}
    for section in sections(parts):
        entries = [entry for name, entry in table.items() if name.startswith(f"{section}.")]
        end = max(entry.offset + entry.size_bytes for entry in entries)
        sizes[section] = _round_up(end - min(entry.offset for entry in entries), SECTION_BYTES)
    return max(size for section, size in sizes.items() if section != "embedding")


def _stored(section: str, tensors: Mapping[str, Tensor], weights: WeightsType) -> Iterator[tuple[str, Stored]]:
    """Embeddings have one scale a row, so that a row can be read alone; matrices one an output channel."""
    axis = 1 if section in _BY_ROW else 0
    for name, tensor in tensors.items():
        values = np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)
        exact = values.ndim == 1 or section in _EXACT
        yield name, Stored(values, None) if exact else _ENCODERS[weights](values, axis)


def quantise(values: npt.NDArray[np.float32], axis: int) -> Stored:
    """Symmetric int8: `values` is about `int8 * scale`, the scale taken over `axis`; off by half a scale at most."""
    scale = np.abs(values).max(axis=axis, keepdims=axis == 1) / np.float32(_INT8_MOST)
    # Below the normal numbers a division by 127 rounds too coarsely: such rows become zero, half a step off at most.
    scale = np.where(scale >= _SMALLEST_NORMAL, scale, np.float32(1))
    return Stored(np.rint(values / scale).astype(np.int8), scale)


_ENCODERS: dict[WeightsType, Callable[[npt.NDArray[np.float32], int], Stored]] = {
    "int8": quantise,
    "fp16": lambda values, axis: Stored(values.astype(np.float16), None),
    "fp32": lambda values, axis: Stored(values, None),
}


def _write(file: BinaryIO, table: dict[str, TensorEntry], name: str, stored: Stored) -> None:
    scale = None if stored.scale is None else f"{name}.scale"
    table[name] = _append(file, stored.values, scale)
    if scale is not None and stored.scale is not None:
        table[scale] = _append(file, stored.scale, None)


def _append(file: BinaryIO, array: Array, scale: str | None) -> TensorEntry:
    _pad(file, ALIGNMENT_BYTES)
    offset = file.tell()
    file.write(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return TensorEntry(array.dtype.name, array.shape, offset, array.nbytes, scale)


def _pad(file: BinaryIO, alignment_bytes: int) -> None:
    file.write(bytes(_round_up(file.tell(), alignment_bytes) - file.tell()))


def _round_up(size_bytes: int, unit_bytes: int) -> int:
    return -(-size_bytes // unit_bytes) * unit_bytes
