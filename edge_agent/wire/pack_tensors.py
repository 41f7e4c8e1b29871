"""Whether a pack's manifest lists the tensors that an engine reads, in the shapes that it takes them to have.

Checked when a manifest is read, before anything is planned or fetched by it: later on a tensor that is missing or has
another shape would end a trainer in the middle of a pass. Without numpy, like `pack`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from .errors import PackError

if TYPE_CHECKING:
    from .pack import Manifest, ModuleEntry, TensorEntry

_BY_ROW = frozenset({"embedding", "output"})
_EXACT = "context"
_MATRIX_DIMENSIONS = 2
_AGAIN = "build the pack again"

Shape = tuple[int, ...]


def check_tensors(manifest: Manifest) -> None:
    """Tensors of the blocks, modules and the rest against the manifest's own figures.

    Raises:
        PackError: names the first tensor or module that does not fit.
    """
    for name, entry in manifest.tensors.items():
        _check_scale(manifest, name, entry)
    _check_blocks(manifest)
    _check_modules(manifest)
    _check_others(manifest)
    if manifest.pad_token_id >= manifest.vocabulary:
        raise PackError(f"token {manifest.pad_token_id} pads, but there are only {manifest.vocabulary}: {_AGAIN}")


def _check_blocks(manifest: Manifest) -> None:
    """Every block has the same tensors."""
    if not manifest.block_weights:
        raise PackError(f"the manifest lists no weights of a block: {_AGAIN}")
    for block in range(manifest.blocks):
        for local in manifest.block_weights:
            first = _found(manifest, f"block.0.{local}")
            _check_shape(manifest, f"block.{block}.{local}", first.shape)
            if _found(manifest, f"block.{block}.{local}").dtype != first.dtype:
                raise PackError(f"block.{block}.{local} is of another type than in block 0: {_AGAIN}")


def _check_modules(manifest: Manifest) -> None:
    """Every block has the same modules, each the size of its weight."""
    of_block = defaultdict[int, list[tuple[str, int, int]]](list)
    for module in manifest.modules:
        of_block[module.block].append((module.local, module.d_in, module.d_out))
    modules = of_block[0]
    if len({local for local, _, _ in modules}) < len(modules):
        raise PackError(f"a block has two modules of one name: {_AGAIN}")
    if len(of_block) != manifest.blocks or any(others != modules for others in of_block.values()):
        raise PackError(f"the modules of a pack are the same in all of its {manifest.blocks} blocks: {_AGAIN}")
    for module in manifest.modules:
        if module.block == 0:
            _check_module(manifest, module)


def _check_module(manifest: Manifest, module: ModuleEntry) -> None:
    if f"{module.local}.weight" not in manifest.block_weights:
        raise PackError(f"the module {module.local} has no weight among those of a block: {_AGAIN}")
    _check_shape(manifest, f"block.0.{module.local}.weight", (module.d_in, module.d_out))


def _check_others(manifest: Manifest) -> None:
    """What lies below and above the blocks, as far as the pack has it."""
    width, table = (manifest.d_model,), (manifest.vocabulary, manifest.d_model)
    _check_shape(manifest, "embedding.word", table)
    optional: dict[str, Shape] = {
        "output.word": table,
        "embedding.norm.weight": width,
        "final.norm.weight": width,
        "final.norm.bias": width,
        "context.relative": (2 * manifest.max_tokens - 1, manifest.heads),
    }
    for name in optional.keys() & manifest.tensors.keys():
        _check_shape(manifest, name, optional[name])
    if "embedding.norm.weight" in manifest.tensors:
        _check_shape(manifest, "embedding.norm.bias", width)
    if manifest.pooling == "pooler":
        _check_shape(manifest, "pooler.weight", (manifest.d_model, manifest.d_model))
        _check_shape(manifest, "pooler.bias", width)
    _check_positions(manifest)


def _check_positions(manifest: Manifest) -> None:
    """Tables with a row for each position."""
    if "embedding.position" in manifest.tensors:
        _check_rows(manifest, "embedding.position", manifest.d_model)
    turns = [name for name in ("context.cos", "context.sin") if name in manifest.tensors]
    if len(turns) == 1:
        raise PackError(f"a pack has either both of context.cos and context.sin, or none: {_AGAIN}")
    for name in turns:
        shape = _found(manifest, "context.cos").shape
        _check_rows(manifest, name, shape[-1] if shape else 1)


def _check_rows(manifest: Manifest, name: str, width: int) -> None:
    """At least as many rows as the longest sequence has tokens."""
    shape = _found(manifest, name).shape
    rows = max(manifest.max_tokens, shape[0]) if shape else manifest.max_tokens
    _check_shape(manifest, name, (rows, width))


def _check_scale(manifest: Manifest, name: str, entry: TensorEntry) -> None:
    """An int8 tensor has a scale that stretches over it, and no other tensor has one."""
    if (entry.dtype == "int8") != (entry.scale is not None):
        raise PackError(f"{name} is stored as {entry.dtype} with the scale {entry.scale}: {_AGAIN}")
    if entry.scale is None:
        return
    if len(entry.shape) != _MATRIX_DIMENSIONS:
        raise PackError(f"{name} is stored as int8 in the shape {entry.shape}, which only matrices are: {_AGAIN}")
    section = name.partition(".")[0]
    if section == _EXACT:
        raise PackError(f"{name} is stored as int8, but is added to scores, or turns them: {_AGAIN}")
    _check_shape(manifest, entry.scale, (entry.shape[0], 1) if section in _BY_ROW else (entry.shape[1],))
    if manifest.tensors[entry.scale].dtype != "float32":
        raise PackError(f"{entry.scale} is a scale and must be float32: {_AGAIN}")


def _check_shape(manifest: Manifest, name: str, expected: Shape) -> None:
    found = _found(manifest, name).shape
    if found != expected:
        raise PackError(f"{name} should have the shape {expected}, the manifest lists {found}: {_AGAIN}")


def _found(manifest: Manifest, name: str) -> TensorEntry:
    if name not in manifest.tensors:
        raise PackError(f"the manifest lists no tensor {name}, which the model needs: {_AGAIN}")
    return manifest.tensors[name]
