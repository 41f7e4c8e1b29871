"""AdamW over row tables, in numpy.

Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (arXiv 1711.05101), algorithm 2, with torch's order of
operations. `E` starts at zero, where `A` and `B` get no gradient, so it has a learning rate of its own.

A round is short and its moments start at zero, so with the usual epsilon of 1e-8 every step is as long as the learning
rate, however small the gradient: a device that has nothing to learn, since all its examples are of one class, would
move the model as far as any other, at random. Gradients well below epsilon move it little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.selection import Positions
from edge_agent.wire.ranks import HEAD, Layout, Rows

Float32 = npt.NDArray[np.float32]
BETAS = (0.9, 0.999)


@dataclass(frozen=True)
class Rates:
    """Learning rates of `A`, `E` and `B`, and of the head; decay is relative to each. At 0 a part stays as it is.

    `epsilon` is what AdamW adds to the root of the second moment.
    """

    a: float
    e: float
    b: float
    head: float
    weight_decay: float
    epsilon: float


@dataclass
class _Moments:
    """State of one table: the trained rows only. `rate` is `(width,)`."""

    rate: Float32
    first: Float32
    second: Float32


class AdamW:
    """Optimizer of the trained ranks and the whole head; frozen rows are never touched and have no state.

    Made anew for every round and mask, so no pruned rank keeps a moment.
    """

    def __init__(self, layout: Layout, positions: Positions, rates: Rates) -> None:
        self._positions = positions
        self._decay = rates.weight_decay
        self._epsilon = rates.epsilon
        self._steps = 0
        self._tables = {}
        for module in layout.modules:
            if module.name in positions:
                rate = np.full(module.width, rates.b, dtype=np.float32)
                rate[: module.d_in] = rates.a
                rate[module.d_in] = rates.e
                self._tables[module.name] = _zeros(len(positions[module.name]), rate)
        head = np.full(layout.d_model + 1, rates.head, dtype=np.float32)
        self._tables[HEAD] = _zeros(layout.classes, head)

    def tables(self) -> dict[str, Float32]:
        """Both moments of every table, by name; changed in place."""
        first = {f"first {name}": moments.first for name, moments in self._tables.items()}
        return first | {f"second {name}": moments.second for name, moments in self._tables.items()}

    def go_on_after(self, steps: int) -> None:
        """Counts as if `steps` were made: those that led to the present moments."""
        self._steps = steps

    def step(self, rows: Rows, gradients: Rows) -> None:
        """Updates `rows` in place; both are living rows `(living, width)` a module, and the whole head.

        A table without a gradient rests: neither its moments nor decay move it.
        """
        self._steps += 1
        for name, moments in self._tables.items():
            if name not in gradients:
                continue
            places = self._positions.get(name, slice(None))
            values = rows[name][places]
            self._advance(moments, values, gradients[name][places])
            rows[name][places] = values

    def _advance(self, moments: _Moments, values: Float32, gradient: Float32) -> None:
        """One step of `values` in place."""
        beta1, beta2 = BETAS
        moments.first += (1 - beta1) * (gradient - moments.first)
        moments.second *= beta2
        moments.second += (1 - beta2) * gradient * gradient
        denominator = np.sqrt(moments.second)
        denominator /= math.sqrt(1 - beta2**self._steps)
        denominator += self._epsilon
        values -= values * (moments.rate * self._decay)
        values -= moments.first / denominator * (moments.rate / (1 - beta1**self._steps))


def _zeros(rows: int, rate: Float32) -> _Moments:
    shape = (rows, len(rate))
    return _Moments(rate, np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32))
