"""The average of a round's updates, computed a second time, in plain float64: the coordinator's must be the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.store import Checkpoint
from edge_agent.wire import codec, rowset
from edge_agent.wire import state as states
from edge_agent.wire.ranks import HEAD, Layout, Rows
from edge_agent.wire.state import ModelState

TOLERANCE = 1e-5
"""Of float32 values below about 10, over four additions."""


@dataclass(frozen=True)
class Sent:
    """A model, and what broadcasts have lost of it so far: their sum moves by exactly the average."""

    state: ModelState
    residual: Rows

    def total(self, name: str) -> npt.NDArray[np.float64]:
        """The sum, of one table."""
        return self.state.rows[name].astype(np.float64) + self.residual[name]


def seed(layout: Layout, number: int) -> Sent:
    """Before the first round."""
    return Sent(states.seed_state(layout, number), layout.empty_rows())


def sent(checkpoint: Checkpoint, layout: Layout) -> Sent:
    """What a checkpoint of the coordinator holds."""
    state = states.from_bytes(checkpoint.state, layout)
    return Sent(state, states.from_bytes(checkpoint.residual, layout).rows)


def largest_error(before: Sent, after: Sent, bodies: Iterable[bytes]) -> float:
    """How far any number of `after` is from `before`, moved by the average of the updates `bodies`.

    A row is averaged over the updates that have it, weighted by their examples; pruned ranks are not looked at.
    """
    layout = before.state.layout
    sums = {name: np.zeros((table.rows, table.width)) for name, table in layout.tables.items()}
    weights = {name: np.zeros(table.rows) for name, table in layout.tables.items()}
    for body in bodies:
        update = codec.decode_update(body, layout, limit_bytes=codec.update_limit_bytes(layout))
        values = update.changes.rows()
        for name, rows in rowset.chosen(layout, update.changes.ranks, update.changes.classes).items():
            sums[name][rows] += values[name].astype(np.float64) * update.examples
            weights[name][rows] += update.examples
    errors = [0.0]
    for name, rows in {**dict(_living(after.state)), HEAD: np.arange(layout.classes)}.items():
        mean = sums[name] / np.maximum(weights[name], 1)[:, None]
        errors.append(float(np.abs(after.total(name) - before.total(name) - mean)[rows].max(initial=0.0)))
    return max(errors)


def _living(state: ModelState) -> Iterable[tuple[str, npt.NDArray[np.intp]]]:
    return ((module.name, slots) for module, slots in state.layout.living(state.mask))
