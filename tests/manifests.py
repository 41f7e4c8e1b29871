"""The manifest of a pack of two blocks, each of one matrix of 4 by 6, stored as float32: as small as one can be."""

from __future__ import annotations

import math

from edge_agent.wire.pack import (
    FILES,
    FORMAT,
    INT8_FILES,
    WEIGHTS,
    FileEntry,
    Manifest,
    ModuleEntry,
    TensorEntry,
    bytes_per_rank,
)

MODULES = (ModuleEntry("layer.0.query", "query", 0, 4, 6), ModuleEntry("layer.1.query", "query", 1, 4, 6))
SHAPES = {"embedding.word": (9, 4), "block.0.query.weight": (4, 6), "block.1.query.weight": (4, 6)}
WEIGHTS_BYTES = 4 * sum(math.prod(shape) for shape in SHAPES.values())
ABSENT = FileEntry("0" * 64, 0)


def make_tensors() -> dict[str, TensorEntry]:
    """One after the other from the beginning of the file."""
    tensors, offset = {}, 0
    for name, shape in SHAPES.items():
        size_bytes = 4 * math.prod(shape)
        tensors[name] = TensorEntry("float32", shape, offset, size_bytes)
        offset += size_bytes
    return tensors


def make_manifest(files: dict[str, FileEntry] | None = None, *, int8: bool = False) -> Manifest:
    """`files` are those that are not `ABSENT`. With `int8` it has graphs for products of integers too."""
    names = INT8_FILES if int8 else FILES
    return Manifest(
        format=FORMAT,
        model="tiny",
        architecture="bert",
        weights="int8" if int8 else "fp32",
        d_model=4,
        heads=2,
        blocks=2,
        vocabulary=9,
        max_tokens=16,
        pad_token_id=0,
        pooling="mean",
        norm_eps=1e-12,
        causal=False,
        modules=MODULES,
        block_weights=("query.weight",),
        tensors=make_tensors(),
        files={**dict.fromkeys(sorted(names), ABSENT), WEIGHTS: FileEntry("0" * 64, WEIGHTS_BYTES), **(files or {})},
        source_sha256="0" * 64,
        mapped_working_set_bytes=65_536,
        bytes_per_rank=bytes_per_rank(MODULES),
    )
