"""Averages in which a rank that a client did not send counts as no change of it: a plain sum over all clients.

The product's own aggregation divides by the examples of those clients alone that trained a rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from coordinator.aggregate import Aggregator, advance
from coordinator.arbitrate import cast, empty_ballot
from coordinator.fleet_model import FleetModel
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Rows

from ..method import Model, Parts, Setup, Upload
from ..views import merge_model, project_model

Float64 = npt.NDArray[np.float64]


class Padded(NamedTuple):
    """What a round's updates say, in the view of the parts that travelled.

    `change` are full tables, the mean over all clients; `share` `(modules, slots)` the part of the examples whose
    clients trained a rank; `importance` `(modules, slots)` the clients' mean scores.
    """

    change: Rows
    share: Float64
    importance: Float64


def padded_mean(fleet: FleetModel, uploads: Sequence[Upload]) -> Padded:
    """The weighted mean of the changes, zero where a client sent none. The head's is over those that sent it."""
    layout = fleet.state.layout
    aggregator, ballot = Aggregator(layout), empty_ballot(layout)
    for upload in uploads:
        aggregator.add(upload.update)
        ballot = cast(ballot, upload.update)
    share = ballot.trained / sum(upload.update.examples for upload in uploads)
    change = aggregator.mean()
    for index, module in enumerate(layout.modules):
        change[module.name] *= share[index].astype(np.float32)[:, None]
    return Padded(change, share, ballot.importance(fleet.importance))


def moved(setup: Setup, model: Model, padded: Padded, parts: Parts) -> Model:
    """The model after the change, none of whose ranks is pruned."""
    fleet = project_model(model.fleet, parts)
    scheme = find_scheme(setup.options.training.quantisation)
    step = advance(fleet.state, padded.change, fleet.residual, fleet.state.mask, scheme)
    after = replace(fleet, state=step.state, residual=step.residual, importance=padded.importance)
    return replace(model, fleet=merge_model(model.fleet, after, parts), broadcast=(step.delta,))
