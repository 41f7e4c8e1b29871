"""FLoRA: the clients' factors are stacked, not averaged, and every client adds their product to the frozen weights.

Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank Adaptations"
(arXiv 2409.05976), section 3.2 and algorithm 1: the stack of all `A_k` and of all `p_k B_k` has the product
`sum_k p_k B_k A_k`, whatever the clients' ranks; `p_k` is a client's share of the examples. Adapters start anew in
every round: here `A` from the seed and the round, alike on all devices, and `B` zero.

The server passes on the values as they arrived, so nothing is quantised twice. What quantisation loses of a rank has no
meaning for the fresh one of the next round; the head's residual has.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coordinator.aggregate import Aggregator, advance
from coordinator.fleet_model import FleetModel
from edge_agent.wire import rowset
from edge_agent.wire.codec import Update
from edge_agent.wire.container import Kind, seal
from edge_agent.wire.quantise import Quantised, find_scheme
from edge_agent.wire.ranks import HEAD, Rows
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import RowSet

from ..method import Client, Model, Setup, Task, Upload
from ..views import view_of
from .averaging import Averaging, lora_rows, with_rows
from .factors import from_rows, stack, trained_rows, weights_of
from .shares import first_slots

_EXAMPLES = struct.Struct("<Q")


@dataclass(frozen=True)
class Flora(Averaging):
    """Exact aggregation into the frozen weights; fresh adapters in every round."""

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The first slots of every module, as many as the client has room for; it holds no others."""
        state = model.fleet.state
        mask = first_slots(state.mask, client.rank_share)
        return Task(mask, self.parts(number), state=replace(state, mask=mask), feedback=False)

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The stack is folded into the frozen weights, the head is averaged, and the ranks start anew."""
        state, weights = model.fleet.state, weights_of(uploads)
        learned = [trained_rows(state, upload.update, self.parts(number)) for upload in uploads]
        base = dict(model.base)
        for module, _ in state.layout.living(state.mask):
            folded = stack([from_rows(module, rows[module.name]) for rows in learned], weights)
            if len(folded.a):
                added = (setup.options.training.scale * folded.matrix).astype(np.float32)
                base[module.name] = base.get(module.name, np.float32(0)) + added
        fleet, delta = self._with_head(setup, model, uploads, number)
        stacked = seal(Kind.DELTA, b"".join(stack_entry(upload.update) for upload in uploads))
        return Model(_restarted(setup, fleet, number), (stacked, delta), base=base)

    def _with_head(
        self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int
    ) -> tuple[FleetModel, bytes]:
        """The next version with the head's mean, and the object that carries it."""
        fleet = model.fleet
        aggregator = Aggregator(view_of(setup.layout, self.parts(number)))
        for upload in uploads:
            aggregator.add(upload.update)
        change: Rows = {**setup.layout.empty_rows(), HEAD: aggregator.mean()[HEAD]}
        scheme = find_scheme(setup.options.training.quantisation)
        step = advance(fleet.state, change, fleet.residual, fleet.state.mask, scheme)
        return FleetModel(step.state, step.residual, fleet.importance), step.delta


def stack_entry(update: Update) -> bytes:
    """A client's examples and its rows without the head, as it sent them."""
    changes = update.changes
    tables = {**changes.tables, HEAD: _without_rows(changes.tables[HEAD])}
    rows = RowSet(changes.scheme, changes.ranks, np.zeros_like(changes.classes), tables)
    return _EXAMPLES.pack(update.examples) + rowset.write(rows)


def _without_rows(table: Quantised) -> Quantised:
    return replace(table, codes=table.codes[:0], scales=table.scales[:0], exact=table.exact[:0])


def _restarted(setup: Setup, fleet: FleetModel, number: int) -> FleetModel:
    """The model with the adapters that training starts from after round `number`."""
    seed = int(generator(setup.seed, "restart", number).words(1)[0])
    return with_rows(fleet, lora_rows(setup.layout, seed, fleet.state.rows), setup)
