"""What an engine can be asked for: checked before anything is computed, so that an error names its cause."""

from __future__ import annotations

import numpy as np

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import Manifest
from edge_agent.wire.ranks import HEAD, Layout, Rows

from .protocol import Batch, Int32


def check_batch(batch: Batch, manifest: Manifest, classes: int) -> None:
    """Shapes, tokens and labels against the pack.

    Raises:
        EngineError: names what does not fit.
    """
    ids, mask = batch.input_ids, batch.attention_mask
    if ids.ndim != 2 or ids.size == 0 or mask.shape != ids.shape:
        raise EngineError(f"expected tokens and mask of one shape (batch, tokens), got {ids.shape} and {mask.shape}")
    if ids.shape[1] > manifest.max_tokens:
        raise EngineError(f"{manifest.model} takes {manifest.max_tokens} tokens at most, got {ids.shape[1]}: truncate")
    _check_range("token", ids, manifest.vocabulary)
    if not mask.any(axis=1).all():
        raise EngineError("an example of the batch is all padding: every example needs a token at least")
    if batch.labels is not None:
        if batch.labels.shape != ids.shape[:1]:
            raise EngineError(f"expected {len(ids)} labels, got an array of shape {batch.labels.shape}")
        _check_range("label", batch.labels, classes)


def check_rows(rows: Rows, layout: Layout) -> None:
    """Names, shapes and types of the living rows against the layout.

    Raises:
        EngineError: names the table that does not fit.
    """
    if rows.keys() != layout.tables.keys():
        raise EngineError(f"expected rows for {len(layout.tables)} tables, differing: {rows.keys() ^ layout.tables}")
    for name, table in layout.tables.items():
        array = rows[name]
        if array.dtype != np.float32 or array.ndim != 2 or array.shape[1] != table.width:
            raise EngineError(
                f"rows of {name!r} must be float32 (rows, {table.width}), got {array.dtype} {array.shape}"
            )
    if len(rows[HEAD]) != layout.classes:
        raise EngineError(f"the head must have {layout.classes} rows, got {len(rows[HEAD])}")


def _check_range(what: str, values: Int32, end: int) -> None:
    if values.min() < 0 or values.max() >= end:
        raise EngineError(f"expected every {what} in 0 to {end - 1}, got {values.min()} to {values.max()}")
