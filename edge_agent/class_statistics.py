"""The mean pooled state of every class of the local examples, and how examples deviate from it.

A head can start from these without a step of training (see `wire.class_statistics` for the table, and
`coordinator.head_start` for what becomes of it). They are all that a device tells: sums over its examples, never one of
them, except where there are so few that a sum gives them away (docs/configuration.md says when).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_agent.engine.protocol import Engine
from edge_agent.reading import Reading
from edge_agent.wire.class_statistics import SCALE, most_axes
from edge_agent.wire.ranks import HEAD, Layout, Rows, compact
from edge_agent.wire.state import ModelState

AXES_SHARE = 0.9
"""The axes hold at least so much of the variance, unless there are too many; see docs/learning-log.md."""

Float64 = npt.NDArray[np.float64]


def class_statistics(engine: Engine, state: ModelState, reading: Reading, *, axes: bool) -> Rows:
    """The table `(classes + most axes, d_model + 1)`, without axes unless they are asked for.

    Rows of classes that do not occur are zero, and so are those behind the last axis.

    Raises:
        EngineError: shapes or tokens that do not fit the pack.
    """
    layout, labels = state.layout, reading.tokens.labels
    sums, moment = _sums(engine, state, reading, axes=axes)
    counts = np.bincount(labels, minlength=layout.classes)
    means = sums / np.maximum(counts, 1)[:, None]
    table = np.zeros((layout.classes + most_axes(layout.d_model), layout.d_model + 1), np.float32)
    table[: layout.classes, :-1] = means * SCALE
    table[: layout.classes, -1] = counts / len(labels)
    if moment is not None:
        moment -= sums.T @ means
        moment /= len(labels)
        _fill_axes(table[layout.classes :], moment)
    return {HEAD: table}


def _sums(engine: Engine, state: ModelState, reading: Reading, *, axes: bool) -> tuple[Float64, Float64 | None]:
    """Sums of the pooled states by class, `(classes, d_model)`, and the sum of their outer products."""
    layout: Layout = state.layout
    rows = compact(layout, state.rows, state.mask)
    sums = np.zeros((layout.classes, layout.d_model))
    moment = np.zeros((layout.d_model, layout.d_model)) if axes else None
    for batch in reading.batches():
        pooled = engine.pooled(batch, rows, micro_batch=reading.micro_batch).astype(np.float64)
        np.add.at(sums, np.asarray(batch.labels), pooled)
        if moment is not None:
            moment += pooled.T @ pooled
    engine.give_back()
    return sums, moment


def _fill_axes(table: npt.NDArray[np.float32], covariance: Float64) -> None:
    """Writes the longest principal axes of `covariance` into the rows of `table`."""
    variances, directions = np.linalg.eigh(covariance)
    variances = np.maximum(variances[::-1], 0)  # rounding may leave tiny negatives
    held = np.cumsum(variances)
    if not held[-1] > 0:
        return
    count = min(int(np.searchsorted(held, AXES_SHARE * held[-1])) + 1, len(table))
    lengths = np.sqrt(variances[:count])
    table[:count, :-1] = directions[:, ::-1].T[:count] * lengths[:, None] * SCALE
    table[0, -1] = np.sqrt((held[-1] - held[count - 1]) / len(variances)) * SCALE
