"""The head from the mean states of the classes: the nearest-mean classifier, written as a linear layer.

The class whose mean `m_c` is nearest to a pooled state `x` has the largest `x . m_c - |m_c|^2 / 2`. Moving the origin
to the mean of all examples, `m`, changes no difference of these, and a common factor `f` no order:
`w_c = f (m_c - m)`, `bias_c = -f (|m_c|^2 - |m|^2) / 2` (Mensink et al., IEEE TPAMI 2013; as the start of federated
training: Legate et al., "Guiding the last layer in federated learning with pre-trained models", NeurIPS 2023,
arXiv 2306.03937). Means of devices add up exactly, whatever the skew of their labels.

The sums are fixed-point integers, so the order in which devices answer does not matter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coordinator.aggregate import FRACTION_BITS
from edge_agent.wire.codec import Update
from edge_agent.wire.ranks import HEAD, Layout
from edge_agent.wire.rowset import MEANS_SCALE, VALUE_LIMIT, chosen

LOGIT_GAP = 4.0
"""By how much a class's logit is above that of a class of the mean example, at its own mean, on average."""

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class MeansOfClasses:
    """The sums over the devices. No sum can overflow: see `coordinator.aggregate`, whose limits hold here too."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums: Int64 = np.zeros((layout.classes, layout.d_model), np.int64)
        self._counts: Int64 = np.zeros(layout.classes, np.int64)

    def add(self, update: Update) -> None:
        """Adds one device's means, which stand in the head rows of its update (see `edge_agent.class_means`)."""
        rows = update.changes.rows()[HEAD]
        indices = chosen(self._layout, update.changes.ranks, update.changes.classes)[HEAD]
        counts = np.rint(np.clip(rows[:, -1], 0, 1).astype(np.float64) * update.examples).astype(np.int64)
        weighted = rows[:, :-1].astype(np.float64) * counts[:, None] * 2.0**FRACTION_BITS
        self._sums[indices] += np.rint(weighted).astype(np.int64)
        self._counts[indices] += counts

    def head(self, before: Float32) -> Float32:
        """The head's rows `[w_c | bias_c]`, `(classes, d_model + 1)`; those of `before` if no example was counted.

        A class that nobody has gets the row of the mean example: it is neither preferred nor ruled out.
        """
        total = int(self._counts.sum())
        if not total:
            return before
        sums = self._sums.astype(np.float64) * 2.0**-FRACTION_BITS / MEANS_SCALE
        centre = sums.sum(axis=0) / total
        seen = self._counts > 0
        means = np.where(seen[:, None], sums / np.maximum(self._counts, 1)[:, None], centre)
        weights = means - centre
        apart = np.square(weights[seen]).sum(axis=1).mean()
        if not apart > 0:
            return before
        bias = -(np.square(means).sum(axis=1) - np.square(centre).sum()) / 2
        head = np.concatenate([weights, bias[:, None]], axis=1)
        factor = min(2 * LOGIT_GAP / apart, VALUE_LIMIT / 2 / np.abs(head).max())  # what does not fit could not travel
        return np.asarray(head * factor, dtype=np.float32)
