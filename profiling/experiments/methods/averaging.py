"""What methods that average updates have in common: all but how ranks start, and which of their parts learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from coordinator import fleet_model
from coordinator.fleet_model import FleetModel, Rules
from coordinator.rank_plan import RankPlan
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Mask, Rows, keep_top
from edge_agent.wire.rng import generator
from edge_agent.wire.state import ModelState

from ..method import Client, Model, Parts, Setup, Task, Upload, mean_loss
from ..views import merge_model, project_model
from .trials import on_trial, with_momentum


@dataclass(frozen=True)
class LoraStart:
    """Low-rank adaptation: `A` Gaussian, `B` zero, and `E` one for good (LoRA, arXiv 2106.09685, section 4.1)."""

    def start(self, setup: Setup) -> Model:
        """See `Method.start`."""
        model = empty_model(setup)
        rows = lora_rows(setup.layout, setup.seed, model.state.rows)
        return Model(with_rows(model, rows, setup))


@dataclass(frozen=True)
class Averaging(LoraStart):
    """Federated averaging of the parts that learn, without pruning."""

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """All living ranks, or the best of them that the client has room for."""
        return on_trial(setup, model.fleet.state, Task(within_share(model.fleet, client), self.parts(number)))

    def parts(self, number: int) -> Parts:
        """`A` and `B`."""
        return Parts(e=False)

    def budget_ranks(self, setup: Setup, model: Model, number: int) -> int | None:
        """All that live."""
        return None

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The weighted mean of every row over the clients that trained it."""
        return average(setup, model, uploads, self.parts(number), without_pruning(setup, model))


def average(setup: Setup, model: Model, uploads: Sequence[Upload], parts: Parts, rules: Rules) -> Model:
    """The product's aggregation and arbitration by `rules`, in the view of the parts that travelled."""
    updates = [upload.update for upload in uploads]
    momentum = setup.options.trial.momentum
    earlier = model.memory if isinstance(model.memory, ModelState) else None
    before = project_model(with_momentum(model.fleet, earlier, momentum), parts)
    closing = fleet_model.close_round(before, updates, mean_loss(uploads), rules)
    fleet = merge_model(model.fleet, closing.model, parts)
    memory = model.fleet.state if momentum else model.memory
    return replace(model, fleet=fleet, broadcast=(closing.delta,), memory=memory)


def empty_model(setup: Setup) -> FleetModel:
    """The product's start, with the ranks that the profile's depth leaves."""
    model = fleet_model.start(setup.layout, setup.seed)
    return with_rows(replace(model, state=replace(model.state, mask=setup.alive)), model.state.rows, setup)


def with_rows(model: FleetModel, rows: Rows, setup: Setup) -> FleetModel:
    """The model with other rows; those of ranks that do not live are zero."""
    kept = {name: table.copy() for name, table in rows.items()}
    for module, dead in setup.layout.living(~setup.alive):
        kept[module.name][dead] = 0
    return replace(model, state=replace(model.state, rows=kept))


def lora_rows(layout: Layout, seed: int, rows: Rows) -> Rows:
    """`rows` with `A` from the seed, `E` one and `B` zero in every module; the head as it is."""
    fresh = {name: table.copy() for name, table in rows.items()}
    for module in layout.modules:
        table = np.zeros((layout.slots, module.width), np.float32)
        draws = generator(seed, "seed", module.name, "A")
        table[:, : module.d_in] = draws.gaussian((layout.slots, module.d_in), 1 / math.sqrt(module.d_in))
        table[:, module.d_in] = 1
        fresh[module.name] = table
    return fresh


def planned(setup: Setup, model: Model, number: int) -> Rules:
    """How the product closes round `number`."""
    plan = RankPlan(setup.options.ranks, setup.profile.rounds, setup.alive)
    return plan.rules(model.fleet, number, find_scheme(setup.options.training.quantisation))


def without_pruning(setup: Setup, model: Model) -> Rules:
    """A round after which all ranks live that did before."""
    return Rules(int(model.fleet.state.mask.sum()), 1.0, find_scheme(setup.options.training.quantisation))


def within_share(model: FleetModel, client: Client) -> Mask:
    """The most important of the living ranks that the client has room for, at least one."""
    alive = int(model.state.mask.sum())
    return keep_top(model.importance, model.state.mask, max(1, math.floor(client.rank_share * alive)))
