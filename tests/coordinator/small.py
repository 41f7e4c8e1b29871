"""A fleet's model of two modules, and updates that move it."""

from __future__ import annotations

import numpy as np

from coordinator import fleet_model
from coordinator.fleet_model import FleetModel, Rules, close_round
from edge_agent.wire import state as states
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, Module
from edge_agent.wire.rowset import quantise_rows

LAYOUT = Layout((Module("low", 0, 4, 3), Module("high", 1, 3, 5)), slots=3, classes=2, d_model=4)
SCHEME = find_scheme("int8")
SEED = 1


def an_update(seed: int, version: int = 0) -> Update:
    """Some ranks trained, some of them voted for."""
    generator = np.random.default_rng(seed)
    ranks = generator.random((2, 3)) < 0.7
    change = {
        module.name: generator.standard_normal((len(slots), module.width)).astype(np.float32)
        for module, slots in LAYOUT.living(ranks)
    }
    change[HEAD] = generator.standard_normal((2, 5)).astype(np.float32)
    rows, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEME)
    scores = np.where(ranks, generator.random(ranks.shape), 0).astype(np.float16).astype(np.float32)
    votes = ranks & (generator.random(ranks.shape) < 0.5)
    return Update(version + 1, version, int(generator.integers(1, 100)), votes, scores, rows)


def same(left: FleetModel, right: FleetModel) -> bool:
    return (
        states.digest(left.state) == states.digest(right.state)
        and all(np.array_equal(left.residual[name], right.residual[name]) for name in LAYOUT.tables)
        and np.array_equal(left.importance, right.importance)
    )


def rules(budget_ranks: int) -> Rules:
    return Rules(budget_ranks, 0.5, SCHEME)


def after_a_round(seeds: list[int], budget: int = 4) -> FleetModel:
    return close_round(fleet_model.start(LAYOUT, SEED), map(an_update, seeds), 1.5, rules(budget)).model
