"""What an engine can be asked for: checked before anything is computed, so that an error names its cause."""

from __future__ import annotations

import numpy as np

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import Manifest
from edge_agent.wire.ranks import HEAD, Layout, Rows

from .next_token import IGNORED
from .protocol import Batch, Int32, Prefix


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
    if batch.prefix is not None:
        _check_prefix(batch.prefix, (*ids.shape, manifest.d_model), manifest.blocks)
    if batch.labels is not None:
        _check_labels(batch.labels, ids, manifest, classes)


def _check_prefix(prefix: Prefix, shape: tuple[int, ...], blocks: int) -> None:
    hidden = prefix.hidden
    if hidden.shape != shape or hidden.dtype != np.float32 or not 0 <= prefix.block <= blocks:
        raise EngineError(
            f"expected the states before one of {blocks} blocks as float32 {shape}, got {hidden.dtype} {hidden.shape} "
            f"before block {prefix.block}"
        )


def check_start(prefix: Prefix | None, stop: int) -> None:
    """A pass must begin at or below the lowest block that it trains.

    Raises:
        EngineError: its prefix begins above that.
    """
    if prefix is not None and prefix.block > stop:
        raise EngineError(f"block {stop} is trained, but the states given are those before block {prefix.block}")


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


def _check_labels(labels: Int32, ids: Int32, manifest: Manifest, classes: int) -> None:
    if labels.shape == ids.shape[:1]:
        return _check_range("label", labels, classes)
    if labels.shape != ids.shape:
        raise EngineError(
            f"expected {len(ids)} labels, or {ids.shape} next tokens, got an array of shape {labels.shape}"
        )
    if not manifest.causal:
        raise EngineError(
            f"{manifest.model} sees all tokens at once and cannot be trained to tell the next: give classes"
        )
    counted = labels[labels != IGNORED]
    if not counted.size:
        raise EngineError("no next token of the batch counts: every text needs two tokens at least")
    return _check_range("next token", counted, manifest.vocabulary)


def _check_range(what: str, values: Int32, end: int) -> None:
    if values.min() < 0 or values.max() >= end:
        raise EngineError(f"expected every {what} in 0 to {end - 1}, got {values.min()} to {values.max()}")
