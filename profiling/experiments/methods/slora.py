"""SLoRA: a short sparse fine-tuning first, whose decomposition is the start of low-rank adaptation.

Babakniya et al., "SLoRA: Federated Parameter Efficient Fine-Tuning of Language Models" (arXiv 2308.06522), section 4:
in stage 1 the clients change a fixed random part of every weight matrix, the same for all; the SVD of that change is
the start of `A` and `B` in stage 2, which is federated averaging.

The paper's random part are single weights. The engine has gradients for ranks, so here it is whole columns, as many as
there are ranks: row `i` of `A` picks a random input and stays, column `i` of `B` is the change of that input's weights.
The bytes are those of the changed weights alone, and the change has no more than the ranks' number of dimensions, so
its decomposition loses nothing, which the paper's does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coordinator.aggregate import advance
from coordinator.fleet_model import FleetModel
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Rows
from edge_agent.wire.rng import generator

from ..method import Client, Model, Parts, Setup, Task, Upload
from ..views import merge_model, project, project_model
from .averaging import Averaging, average, empty_model, with_rows, without_pruning
from .factors import Factors, from_rows, only_head, to_rows, truncate
from .shares import first_slots


@dataclass(frozen=True)
class SLora(Averaging):
    """Sparse fine-tuning for `sparse_rounds` rounds, low-rank adaptation from then on."""

    sparse_rounds: int = 4
    """A quarter of the usual run. The paper chooses the length of stage 1 anew for every task."""

    def start(self, setup: Setup) -> Model:
        """See `Method.start`."""
        model = empty_model(setup)
        return Model(with_rows(model, sparse_rows(setup.layout, setup.seed, model.state.rows), setup))

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The first slots of every module, as many as the client has room for."""
        mask = first_slots(model.fleet.state.mask, client.rank_share)
        return Task(mask, self._learned(number), feedback=number != self.sparse_rounds)

    def parts(self, number: int) -> Parts:
        """`B` in stage 1, `A` and `B` from the decomposition on."""
        return Parts(a=number >= self.sparse_rounds, e=False)

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The weighted mean; at the end of stage 1 its decomposition is sent in place of the change."""
        closed = average(setup, model, uploads, self._learned(number), without_pruning(setup, model))
        return closed if number != self.sparse_rounds else decomposed(setup, model, closed)

    def _learned(self, number: int) -> Parts:
        return Parts(a=number > self.sparse_rounds, e=False)


def sparse_rows(layout: Layout, seed: int, rows: Rows) -> Rows:
    """`rows` with `A` picking distinct random inputs, `E` one and `B` zero in every module; the head as it is."""
    fresh = dict(rows)
    for module in layout.modules:
        table = np.zeros((layout.slots, module.width), np.float32)
        picked = generator(seed, "sparse", module.name).permutation(module.d_in)[: layout.slots]
        table[np.arange(layout.slots), picked] = 1
        table[:, module.d_in] = 1
        fresh[module.name] = table
    return fresh


def decomposed(setup: Setup, before: Model, closed: Model) -> Model:
    """The model `closed` with the same products from balanced factors, sent as a change from `before`.

    What earlier broadcasts lost of a rank has no meaning in the new basis; the head's residual has.
    """
    layout, rows, parts = setup.layout, dict(closed.fleet.state.rows), Parts(e=False)
    for module, slots in layout.living(closed.fleet.state.mask):
        if len(slots):
            rows[module.name] = rows[module.name].copy()
            rows[module.name][slots] = to_rows(balanced(from_rows(module, rows[module.name][slots])))
    old, new = project_model(before.fleet, parts), project(layout, rows, parts)
    change = {name: table - old.state.rows[name] for name, table in new.items()}
    scheme = find_scheme(setup.options.training.quantisation)
    step = advance(old.state, change, old.state.layout.empty_rows(), old.state.mask, scheme)
    moved = FleetModel(step.state, only_head(old.state.layout, closed.fleet.residual), closed.fleet.importance)
    return replace(before, fleet=merge_model(before.fleet, moved, parts), broadcast=(step.delta,))


def balanced(factors: Factors) -> Factors:
    """The same matrix with factors of equal length, by its SVD; a rank that it does not need keeps `a`, with `b` zero.

    There are no more rows than the matrix has rows and columns.
    """
    best = truncate(factors, len(factors.a))
    values = np.linalg.norm(best.b, axis=1, keepdims=True)
    needed = values > values.max() * np.finfo(np.float32).eps
    root = np.sqrt(np.where(needed, values, 1))
    return Factors(np.where(needed, best.a * root, factors.a), np.where(needed, best.b / root, 0))
