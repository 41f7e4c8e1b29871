"""Coordinate-wise robust means, for fleets in which some devices may send nonsense, by fault or on purpose.

For every number of a rank, over the devices that trained it: the median, or the mean of what is left when the same
share of the smallest and of the largest is left out (Yin et al., "Byzantine-robust distributed learning", ICML 2018,
arXiv 1803.01498, definitions 1 and 2). Devices count alike: how many examples a device has is its own word.

All updates of a round are held at once, in float32: the memory is that of the model's adapters times the devices that
take part, where the weighted mean (`aggregate`) needs one model. Numbers are sorted before they are summed, so the
order of arrival does not matter.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge_agent.wire.codec import Update
from edge_agent.wire.ranks import Layout, Rows
from edge_agent.wire.rowset import chosen

Float32 = npt.NDArray[np.float32]


class RobustAggregator:
    """The updates of one round. `trim` in [0, 0.5] is the share that is left out at either end; 0.5 is the median."""

    def __init__(self, layout: Layout, trim: float) -> None:
        self._layout = layout
        self._trim = trim
        self._sent: dict[str, list[tuple[npt.NDArray[np.intp], Float32]]] = {name: [] for name in layout.tables}

    def add(self, update: Update) -> None:
        """Takes one device's changes in. Raises nothing: values were checked when the update was decoded."""
        rows = update.changes.rows()
        for name, indices in chosen(self._layout, update.changes.ranks, update.changes.classes).items():
            self._sent[name].append((indices, rows[name]))

    def mean(self) -> Rows:
        """The robust mean change of every row, in full tables; zero where nobody changed a row."""
        means = self._layout.empty_rows()
        for name, sent in self._sent.items():
            for row in range(len(means[name])):
                values = [rows[indices == row] for indices, rows in sent]
                means[name][row] = trimmed_mean(np.concatenate(values), self._trim) if values else 0
        return means


def trimmed_mean(values: Float32, trim: float) -> Float32:
    """Of `values (devices, width)`, number by number; zeros without devices.

    At least one value is left, or two where their number is even: with a `trim` of 0.5 that is the median.
    """
    count = len(values)
    if not count:
        return np.zeros(values.shape[1], np.float32)
    left_out = min(int(trim * count), (count - 1) // 2)
    ordered = np.sort(values.astype(np.float64), axis=0)
    return ordered[left_out : count - left_out].mean(axis=0).astype(np.float32)
