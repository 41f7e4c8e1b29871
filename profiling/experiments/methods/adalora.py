"""AdaLoRA by each client for itself, and federated averaging of what they have.

Zhang et al., "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning" (arXiv 2303.10512): `B diag(E) A`, kept
near orthogonal by a regulariser (eq. 4), ranks scored by sensitivity and uncertainty (eq. 8 to 12) and pruned to a
cubic schedule (eq. 13). In a federation every client follows the schedule with a mask of its own, made from the
scores of its last training; one that has not trained yet goes by the fleet's mean scores. The server averages with
zeros for what a client pruned: the mean of the clients' `diag(E)`, and of their changes of `A` and `B`.

Not as in the paper: the budget falls by rounds, not by steps, and what a client pruned it has no scores of, so it does
not come back to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from edge_agent.trainer import Adjust
from edge_agent.wire.ranks import Layout, Mask, Rows, keep_top

from ..method import ALL, Client, Float32, Model, Parts, Setup, Task, Upload
from .averaging import empty_model, planned
from .padded import moved, padded_mean
from .shares import first_slots


class Known(NamedTuple):
    """What a client knows from its last training: the ranks that it trained, and their scores `(modules, slots)`."""

    trained: Mask
    scores: npt.NDArray[np.float32]


Clients = Mapping[int, Known]
"""By the client's number."""


@dataclass(frozen=True)
class AdaLora:
    """`orthogonality` is the regulariser's weight, the paper's gamma (0.1 in most of its tasks)."""

    orthogonality: float = 0.1

    def start(self, setup: Setup) -> Model:
        """See `Method.start`."""
        return Model(empty_model(setup), memory={})

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The best of the client's own ranks, as many as the schedule and its room allow; it holds no others."""
        mask = own_mask(setup, model, client, number)
        adjust = orthogonal(setup.layout, self.orthogonality)
        return Task(mask, adjust=adjust, state=replace(model.fleet.state, mask=mask), importance="sensitivity")

    def parts(self, number: int) -> Parts:
        """All of them."""
        return ALL

    def budget_ranks(self, setup: Setup, model: Model, number: int) -> int | None:
        """All that live: the clients prune for themselves alone."""
        return None

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The mean, with `E` zero for the clients that have pruned a rank; what the clients know is theirs."""
        padded, state = padded_mean(model.fleet, uploads), model.fleet.state
        for index, module in enumerate(state.layout.modules):
            pruned = (1 - padded.share[index]).astype(np.float32)
            padded.change[module.name][:, module.d_in] -= pruned * state.rows[module.name][:, module.d_in]
        known = {one.client.number: Known(one.update.changes.ranks, one.update.scores) for one in uploads}
        return replace(moved(setup, model, padded, ALL), memory={**cast(Clients, model.memory), **known})


def own_mask(setup: Setup, model: Model, client: Client, number: int) -> Mask:
    """The ranks of `client` in round `number`."""
    keep = max(1, math.floor(client.rank_share * planned(setup, model, number - 1).budget_ranks))
    known = cast(Clients, model.memory).get(client.number)
    if known is None:
        return keep_top(model.fleet.importance, first_slots(model.fleet.state.mask, client.rank_share), keep)
    return keep_top(known.scores, known.trained, keep)


def orthogonal(layout: Layout, weight: float) -> Adjust:
    """Adds the gradient of `weight * (||A A^T - I||^2 + ||B^T B - I||^2)` of every module (eq. 4)."""

    def adjust(rows: Rows, gradients: Rows) -> Rows:
        changed = dict(gradients)
        for module in layout.modules:
            if module.name in gradients:
                table, values = gradients[module.name].copy(), rows[module.name]
                table[:, : module.d_in] += np.float32(weight) * slope(values[:, : module.d_in])
                table[:, module.d_in + 1 :] += np.float32(weight) * slope(values[:, module.d_in + 1 :])
                changed[module.name] = table
        return changed

    return adjust


def slope(rows: Float32) -> Float32:
    """The gradient of `||R R^T - I||^2` (Frobenius) by `rows (n, width)`."""
    gradient: Float32 = 4 * (rows @ rows.T - np.eye(len(rows), dtype=np.float32)) @ rows
    return gradient
