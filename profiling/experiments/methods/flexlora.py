"""FlexLoRA: the server averages the products `B_k A_k`, and cuts the mean down to each client's rank by SVD.

Bai et al., "Federated Fine-tuning of Large Language Models under Heterogeneous Tasks and Client Resources"
(arXiv 2402.11505). The paper decomposes the full matrix; the stacked factors give the same result without
it. As in the paper, `A` takes the right singular vectors and `B` the left ones with the singular values, in their
order, so a client of rank `r` takes the first `r` slots and has the best approximation of that rank.

Every round turns the ranks to another basis. What a broadcast's quantisation loses of a rank is therefore not carried
on to the next; the head's is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_agent.wire.ranks import Module, Rows

from ..method import Client, Float32, Model, Setup, Task, Upload
from .averaging import Averaging
from .factors import (
    Factors,
    aligned,
    from_rows,
    only_head,
    rebased,
    stack,
    to_rows,
    trained_rows,
    truncate,
    weights_of,
)
from .shares import first_slots


@dataclass(frozen=True)
class FlexLora(Averaging):
    """Exact averaging of products, each client at its own rank."""

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The first slots of every module, as many as the client has room for; it holds no others."""
        state = model.fleet.state
        mask = first_slots(state.mask, client.rank_share)
        return Task(mask, self.parts(number), feedback=False, state=replace(state, mask=mask))

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The best approximation, of the server's rank, of the weighted mean of the clients' products."""
        state, weights = model.fleet.state, weights_of(uploads)
        learned = [trained_rows(state, upload.update, self.parts(number)) for upload in uploads]
        rows: Rows = {}
        for module, slots in state.layout.living(state.mask):
            old = state.rows[module.name]
            mean = stack([from_rows(module, one[module.name]) for one in learned], weights)
            rows[module.name] = old.copy()
            if len(slots):
                rows[module.name][slots] = _in_slots(module, mean, old[slots])
        return rebased(setup, model, uploads, rows, only_head(state.layout, model.fleet.residual))


def _in_slots(module: Module, mean: Factors, old: Float32) -> Float32:
    """Rows for the slots of `old`; where `mean` has a lower rank, those left over keep their `A` and have `B` zero."""
    before = from_rows(module, old)
    best = aligned(truncate(mean, len(old)), before.a)
    left = before.a[len(best.a) :]
    return to_rows(Factors(np.concatenate((best.a, left)), np.pad(best.b, ((0, len(left)), (0, 0)))))
