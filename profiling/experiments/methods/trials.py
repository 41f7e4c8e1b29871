"""What was tried for the product and is not part of it, for all methods that average updates alike."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from coordinator.fleet_model import FleetModel
from edge_agent.trainer import Adjust
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.state import ModelState

from ..method import Setup, Task


def on_trial(setup: Setup, state: ModelState, task: Task) -> Task:
    """The task as the experiment's trials change it; `state` is what the client starts from."""
    trial = setup.options.trial
    if trial.proximal:
        task = replace(task, adjust=proximal(compact(state.layout, state.rows, state.mask), trial.proximal))
    return replace(task, head=task.head and not trial.freeze_head)


def proximal(start: Rows, strength: float) -> Adjust:
    """Adds the gradient of `strength / 2 * |w - start|^2` for the ranks; the head goes free."""

    def adjust(rows: Rows, gradients: Rows) -> Rows:
        return {
            name: gradient if name == HEAD else gradient + np.float32(strength) * (rows[name] - start[name])
            for name, gradient in gradients.items()
        }

    return adjust


def with_momentum(model: FleetModel, before: ModelState | None, share: float) -> FleetModel:
    """The model with `share` of the change since `before` in its residual, which the next broadcast brings in.

    Ranks that were pruned since have none.
    """
    if not share or before is None:
        return model
    state, residual = model.state, {}
    for name, table in model.residual.items():
        residual[name] = table + np.float32(share) * (state.rows[name] - before.rows[name])
    for module, pruned in state.layout.living(~state.mask):
        residual[module.name][pruned] = 0
    return replace(model, residual=residual)
