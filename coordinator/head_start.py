"""The head from statistics of the classes: a linear discriminant, written as a linear layer.

With class means `m_c`, the mean of all examples `m` and the covariance `S` of examples about the mean of their class,
the class whose mean is nearest to a pooled state `x` in the metric of `S` has the largest
`w_c . x + bias_c` with `w_c = f S^-1 (m_c - m)` and `bias_c = -w_c . (m_c + m) / 2`; the factor `f` changes no order.
Without axes `S` is the identity: the nearest mean (Fisher 1936; Hastie, Tibshirani and Friedman, The Elements of
Statistical Learning, section 4.3; as the start of federated training, with means alone: Legate et al., NeurIPS 2023,
arXiv 2306.03937; with the covariance: Fani et al., "Accelerating heterogeneous federated learning with closed-form
classifiers", ICML 2024, arXiv 2406.01116). Means and covariances of devices add up, whatever the skew of their labels.

The sums are fixed-point integers, so the order in which devices answer does not matter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from coordinator.aggregate import FRACTION_BITS
from edge_agent.wire.class_statistics import SCALE, statistics_layout
from edge_agent.wire.codec import Update
from edge_agent.wire.ranks import HEAD, Layout
from edge_agent.wire.rowset import VALUE_LIMIT, chosen

LOGIT_GAP = 4.0
"""By how much a class's logit is above that of a class of the mean example, at its own mean, on average."""

SHRINKAGE = 0.1
"""Share of the mean variance in the covariance: few examples do not tell the small ones (Friedman, Regularized
discriminant analysis, JASA 1989, eq. 18); chosen in docs/learning-log.md."""

SQUARE_FRACTION_BITS = 22
"""A variance is at most `VALUE_LIMIT**2 = 2**12` and a round counts at most `2**28` examples, which makes 62 bits."""

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


class ClassStatistics:
    """The sums over the devices. No sum can overflow: see `coordinator.aggregate`, whose limits hold here too."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums: Int64 = np.zeros((layout.classes, layout.d_model), np.int64)
        self._counts: Int64 = np.zeros(layout.classes, np.int64)
        self._squares: Int64 = np.zeros((layout.d_model, layout.d_model), np.int64)

    def add(self, update: Update) -> None:
        """Adds one device's statistics (see `edge_agent.wire.class_statistics`)."""
        layout = statistics_layout(self._layout)
        rows = np.zeros((layout.classes, layout.d_model + 1))
        rows[chosen(layout, update.changes.ranks, update.changes.classes)[HEAD]] = update.changes.rows()[HEAD]
        means, axes = rows[: self._layout.classes], rows[self._layout.classes :]
        counts = np.rint(np.clip(means[:, -1], 0, 1) * update.examples).astype(np.int64)
        self._sums += np.rint(means[:, :-1] * counts[:, None] * 2.0**FRACTION_BITS).astype(np.int64)
        self._counts += counts
        self._squares += np.rint(_covariance(axes) * update.examples * 2.0**SQUARE_FRACTION_BITS).astype(np.int64)

    def head(self, before: Float32) -> Float32:
        """The head's rows `[w_c | bias_c]`, `(classes, d_model + 1)`; those of `before` if no example was counted.

        A class that nobody has gets the row of the mean example: it is neither preferred nor ruled out.
        """
        total = int(self._counts.sum())
        if not total:
            return before
        sums = self._sums.astype(np.float64) * 2.0**-FRACTION_BITS / SCALE
        centre = sums.sum(axis=0) / total
        seen = self._counts > 0
        means = np.where(seen[:, None], sums / np.maximum(self._counts, 1)[:, None], centre)
        apart = means - centre
        weights = np.linalg.solve(self._metric(), apart.T).T
        gap = (weights * apart).sum(axis=1)[seen].mean()
        if not gap > 0:
            return before
        bias = -(weights * (means + centre)).sum(axis=1) / 2
        head = np.concatenate([weights, bias[:, None]], axis=1)
        factor = min(2 * LOGIT_GAP / gap, VALUE_LIMIT / 2 / np.abs(head).max())  # what does not fit could not travel
        return np.asarray(head * factor, dtype=np.float32)

    def _metric(self) -> Float64:
        """The covariance, up to a factor, with its share of the mean variance; the identity without axes."""
        squares, identity = self._squares.astype(np.float64), np.eye(self._layout.d_model)
        variance = squares.trace() / len(squares)
        return (1 - SHRINKAGE) * squares / variance + SHRINKAGE * identity if variance > 0 else identity


def _covariance(axes: Float64) -> Float64:
    """Of one device, times `SCALE**2`. A variance beyond the limit comes from the network, not from a model: it takes
    the whole down to the limit."""
    directions, rest = axes[:, :-1], axes[:, -1]
    covariance: Float64 = directions.T @ directions + np.square(rest).sum() * np.eye(directions.shape[1])
    return covariance * min(1.0, VALUE_LIMIT**2 / max(covariance.diagonal().max(), VALUE_LIMIT**2))
