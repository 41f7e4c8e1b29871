"""The mean pooled state of every class of the local examples: what a head can start from without a step of training.

A row is `[mean * MEANS_SCALE (d_model) | share]`: `share` is the part of the local examples that has the class, so the
coordinator can weigh the means of several devices. It is all that a device tells: sums over its examples, never one of
them, except where a class has a single one.
"""

from __future__ import annotations

import numpy as np

from edge_agent.engine.protocol import Engine
from edge_agent.reading import Reading
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.rowset import MEANS_SCALE
from edge_agent.wire.state import ModelState


def class_means(engine: Engine, state: ModelState, reading: Reading) -> Rows:
    """The head table `(classes, d_model + 1)` of means and shares; rows of classes that do not occur are zero.

    Raises:
        EngineError: shapes or tokens that do not fit the pack.
    """
    layout = state.layout
    rows = compact(layout, state.rows, state.mask)
    sums = np.zeros((layout.classes, layout.d_model))
    for batch in reading.batches():
        pooled = engine.pooled(batch, rows, micro_batch=reading.micro_batch)
        np.add.at(sums, np.asarray(batch.labels), pooled)
    engine.give_back()
    counts = np.bincount(reading.tokens.labels, minlength=layout.classes)
    means = sums / np.maximum(counts, 1)[:, None] * MEANS_SCALE
    return {HEAD: np.concatenate([means, counts[:, None] / len(reading.tokens)], axis=1).astype(np.float32)}
