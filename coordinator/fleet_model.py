"""The fleet's model at one version, and the way a round's updates move it to the next."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from coordinator.aggregate import Aggregator, advance
from coordinator.arbitrate import arbitrate, cast, empty_ballot
from coordinator.automatic import Sign, read_sign
from coordinator.head_start import ClassStatistics
from coordinator.robust import RobustAggregator
from coordinator.store import Checkpoint
from edge_agent.wire import state as states
from edge_agent.wire.codec import Update
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import Scheme
from edge_agent.wire.ranks import HEAD, Layout, Rows
from edge_agent.wire.state import ModelState

Float64 = npt.NDArray[np.float64]
_SHA256_BYTES = 32


@dataclass(frozen=True)
class FleetModel:
    """`residual` is what the broadcasts lost so far, `importance` `(modules, slots)` the ranks' last mean scores.

    `signs` is what the rounds of training showed, the oldest first.
    """

    state: ModelState
    residual: Rows
    importance: Float64
    signs: tuple[Sign, ...] = ()


@dataclass(frozen=True)
class Closing:
    """What closing a round gave: the next model and the delta to broadcast.

    The delta is empty where the model returned to that of the version `returned_to`: only a snapshot leads there.
    """

    model: FleetModel
    delta: bytes
    returned_to: int | None = None


def start(layout: Layout, seed: int) -> FleetModel:
    """The model before the first round."""
    state = states.seed_state(layout, seed)
    return FleetModel(state, layout.empty_rows(), np.zeros(state.mask.shape))


@dataclass(frozen=True)
class Rules:
    """How a round closes: `budget_ranks` live after it, `threshold` is the share of votes that keeps a rank.

    `left_out` is the share of the devices that a robust mean leaves out at either end; None for the weighted mean.
    """

    budget_ranks: int
    threshold: float
    scheme: Scheme
    left_out: float | None = None


def close_round(model: FleetModel, updates: Iterable[Update], loss: float | None, rules: Rules) -> Closing:
    """Averages `updates`, arbitrates the ranks, and moves the model. One update is held at a time, or all of them for a
    robust mean.

    `loss` is the devices' mean training loss, where they trained.
    """
    layout, mask = model.state.layout, model.state.mask
    aggregator = Aggregator(layout) if rules.left_out is None else RobustAggregator(layout, rules.left_out)
    ballot = empty_ballot(layout)
    for update in updates:
        aggregator.add(update)
        ballot = cast(ballot, update)
    importance = ballot.importance(model.importance)
    verdict = arbitrate(mask, ballot, importance, rules.budget_ranks, rules.threshold)
    step = advance(model.state, aggregator.mean(), model.residual, verdict.mask, rules.scheme)
    signs = model.signs
    if loss is not None:
        signs = (*signs, read_sign(loss, mask, ballot, importance, rules.budget_ranks))
    return Closing(FleetModel(step.state, step.residual, importance * verdict.mask, signs), step.delta)


def start_head(model: FleetModel, updates: Iterable[Update], scheme: Scheme) -> Closing:
    """Gives the head its start from the devices' statistics of the classes; ranks stay as they are."""
    layout, statistics = model.state.layout, ClassStatistics(model.state.layout)
    for update in updates:
        statistics.add(update)
    change = {**layout.empty_rows(), HEAD: statistics.head(model.state.rows[HEAD]) - model.state.rows[HEAD]}
    step = advance(model.state, change, model.residual, model.state.mask, scheme)
    return Closing(FleetModel(step.state, step.residual, model.importance, model.signs), step.delta)


def return_to(good: FleetModel, closing: Closing) -> Closing:
    """The state of `good` as the next version, in place of what `closing` made of the round."""
    version = closing.model.state.version
    model = replace(good, state=replace(good.state, version=version), signs=closing.model.signs)
    return Closing(model, b"", good.state.version)


def to_checkpoint(model: FleetModel) -> Checkpoint:
    """The model as the store keeps it."""
    lost = replace(model.state, rows=model.residual)
    scores = model.importance.astype("<f8").tobytes()
    sealed = scores + hashlib.sha256(scores).digest()
    return Checkpoint(model.state.version, states.to_bytes(model.state), states.to_bytes(lost), sealed)


def from_checkpoint(checkpoint: Checkpoint, layout: Layout) -> FleetModel:
    """Inverse of `to_checkpoint`.

    Raises:
        PayloadError: the checkpoint is altered, or of another layout.
    """
    state = states.from_bytes(checkpoint.state, layout)
    residual = states.from_bytes(checkpoint.residual, layout).rows
    return FleetModel(state, residual, importance_from(checkpoint, layout))


def importance_from(checkpoint: Checkpoint, layout: Layout) -> Float64:
    """The scores `(modules, slots)` of a checkpoint.

    Raises:
        PayloadError: they are altered, or of another layout.
    """
    scores, seal = checkpoint.scores[:-_SHA256_BYTES], checkpoint.scores[-_SHA256_BYTES:]
    if hashlib.sha256(scores).digest() != seal:
        raise PayloadError(
            f"checksum mismatch in the scores of a checkpoint, {len(scores)} bytes: cut short or altered"
        )
    shape = layout.full_mask().shape
    if len(scores) != 8 * layout.ranks:
        raise PayloadError(f"a checkpoint of this layout has {layout.ranks} scores, got {len(scores) // 8}")
    return np.frombuffer(scores, "<f8").reshape(shape).astype(np.float64)
