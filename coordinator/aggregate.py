"""Averaging updates, one at a time, and the step to the next version of the model.

Sums are fixed-point integers, so the result is the same to the bit in whatever order the updates arrive. A rank is
averaged over the devices that trained it, weighted by their examples, and so is a row of the head over those that
sent it. The memory is that of one model, however many devices there are.

No sum can overflow: a value is at most `VALUE_LIMIT = 2**6`, a round counts at most `MAX_EXAMPLES = 2**28` examples,
and the fraction has 28 bits, together 62 of the 63 that an int64 has. `value * examples` has at most 24 + 28 bits and
is exact in float64, so each device adds an error of at most `2**-29` to the weighted sum of a number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.wire.codec import MAX_EXAMPLES, Delta, Update, apply_delta, encode_delta
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import Scheme
from edge_agent.wire.ranks import HEAD, Layout, Mask, Rows
from edge_agent.wire.rowset import VALUE_LIMIT, chosen, quantise_rows
from edge_agent.wire.state import ModelState

Int64 = npt.NDArray[np.int64]
FRACTION_BITS = 28


class Aggregator:
    """The sums of one round."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._sums = {t.name: np.zeros((t.rows, t.width), dtype=np.int64) for t in layout.tables.values()}
        self._counts = {t.name: np.zeros(t.rows, dtype=np.int64) for t in layout.tables.values()}
        self._examples = 0

    def add(self, update: Update) -> None:
        """Adds one device's changes. A refused update leaves the sums as they were.

        Raises:
            PayloadError: if a value is not finite or too large, or the round would count too many examples.
        """
        if self._examples + update.examples > MAX_EXAMPLES:
            raise PayloadError(
                f"a round counts at most {MAX_EXAMPLES} examples, this update would bring it to "
                f"{self._examples + update.examples}: let fewer devices take part in a round"
            )
        rows = update.changes.rows()
        for name, values in rows.items():
            if not (np.abs(values) <= VALUE_LIMIT).all():
                raise PayloadError(
                    f"table {name!r} of an update has a value that is not finite or over {VALUE_LIMIT:g}"
                )
        self._examples += update.examples
        for name, indices in chosen(self._layout, update.changes.ranks, update.changes.classes).items():
            self._sums[name][indices] += _fixed(rows[name], update.examples)
            self._counts[name][indices] += update.examples

    def mean(self) -> Rows:
        """The mean change of every row, in full tables; zero where nobody changed a row."""
        return {name: _mean(sums, self._counts[name]) for name, sums in self._sums.items()}


@dataclass(frozen=True)
class Step:
    """The way to the next version: `delta` is the object to broadcast, `residual` what it lost, in full tables."""

    delta: bytes
    state: ModelState
    residual: Rows


def advance(state: ModelState, mean: Rows, residual: Rows, mask: Mask, scheme: Scheme) -> Step:
    """The next version, in which the ranks of `mask` live, moved by `mean` and by the residual of earlier steps.

    The new state is made from the dequantised delta, so the coordinator holds exactly what its devices will hold.
    Rows that nobody changed are not sent; a pruned rank loses its residual. A change beyond half of what can travel,
    which no training makes, is cut to that: whatever devices send, it and the residual can travel together.

    Raises:
        PayloadError: if `mask` revives a pruned rank.
    """
    mean = {name: np.clip(rows, -VALUE_LIMIT / 2, VALUE_LIMIT / 2) for name, rows in mean.items()}
    moved = {module.name: np.any(mean[module.name], axis=1) for module in state.layout.modules}
    ranks = mask & np.stack(list(moved.values()))
    change = {module.name: mean[module.name][slots] for module, slots in state.layout.living(ranks)}
    row_set, left = quantise_rows(state.layout, {**change, HEAD: mean[HEAD]}, residual, ranks, scheme)
    for module, pruned in state.layout.living(~mask):
        left[module.name][pruned] = 0
    delta = Delta(state.version, state.version + 1, mask, row_set)
    return Step(encode_delta(delta, state.layout), apply_delta(state, delta), left)


def _fixed(values: npt.NDArray[np.float32], examples: int) -> Int64:
    return np.rint(values.astype(np.float64) * examples * 2.0**FRACTION_BITS).astype(np.int64)


def _mean(sums: Int64, counts: Int64) -> npt.NDArray[np.float32]:
    weighted = sums.astype(np.float64) * 2.0**-FRACTION_BITS
    return (weighted / np.maximum(counts, 1)[:, None]).astype(np.float32)
