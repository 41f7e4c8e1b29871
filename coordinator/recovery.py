"""Looks whether the run folder is whole when a coordinator starts, and mends what is not.

A damaged checkpoint is made again from the last whole one, or from the seed, by the deltas that led on from there: that
gives the state of every device, bit for bit. Where a delta is damaged too, the rounds behind it are undone. A damaged
update of the open round is dropped, and its device asked again. Where the run's name or the count of starts is damaged,
the run gets another name: devices would take the new coordinator for an older one.
"""

from __future__ import annotations

import hashlib
import logging

from coordinator import fleet_model
from coordinator.events import Mended
from coordinator.fleet_model import FleetModel, Float64, from_checkpoint, importance_from, to_checkpoint
from coordinator.rows import drop_damaged
from coordinator.store import RUN_ID_BYTES, Checkpoint, Store
from edge_agent.wire import codec
from edge_agent.wire import state as states
from edge_agent.wire.errors import PayloadError, StoreError
from edge_agent.wire.ranks import Layout, Rows
from edge_agent.wire.state import ModelState

LOGGER = logging.getLogger("rankfleet.coordinator")


def mend(store: Store, layout: Layout, seed: int) -> Mended | None:
    """Mends what is damaged; what was found, or None where everything is whole.

    Raises:
        StoreError: the database cannot be read or written.
    """
    checkpoints = store.checkpoints()
    version = newest = checkpoints[0].version if checkpoints else 0
    damage = _renewed(store)
    if checkpoints:
        version, damaged = _mend_model(store, checkpoints, layout, seed)
        damage += damaged
    damage += drop_damaged(store, version + 1).values()
    return Mended(version, newest, "; ".join(damage)) if damage else None


def _mend_model(store: Store, checkpoints: list[Checkpoint], layout: Layout, seed: int) -> tuple[int, list[str]]:
    """The version that the run goes on from, and what was wrong."""
    newest = checkpoints[0].version
    model, damage = _last_whole(checkpoints, layout, seed)
    deltas, damaged = _whole_deltas(store)
    if model.state.version < newest:
        state = _replayed(store, model.state, deltas, newest)
        model = _salvaged(state, model, {one.version: one for one in checkpoints})
        store.mend(to_checkpoint(model))
    return model.state.version, damage + damaged


def _renewed(store: Store) -> list[str]:
    """What is wrong with the name of the run and the count of its starts, if anything; then it has a new name."""
    damage = []
    if len(store.run_id()) != RUN_ID_BYTES:
        damage.append("the name of the run is damaged: devices start anew")
    try:
        store.value("boot", int)
    except StoreError:
        damage.append("the count of the coordinator's starts is damaged: devices start anew")
        store.keep(boot=0)
    if damage:
        store.renew_run()
    return damage


def _last_whole(checkpoints: list[Checkpoint], layout: Layout, seed: int) -> tuple[FleetModel, list[str]]:
    """The newest model that can be read, and what is wrong with those after it."""
    damage: list[str] = []
    for checkpoint in checkpoints:
        try:
            return from_checkpoint(checkpoint, layout), damage
        except PayloadError as error:
            damage.append(f"the checkpoint of version {checkpoint.version} is damaged ({error})")
    return fleet_model.start(layout, seed), damage


def _whole_deltas(store: Store) -> tuple[dict[int, bytes], list[str]]:
    """The hashes of the deltas by the version that they lead to; damaged deltas are dropped, and told."""
    whole, damage = dict[int, bytes](), []
    for version, sha256, _ in store.delta_sizes(0):
        if hashlib.sha256(store.delta_body(sha256) or b"").digest() == sha256:
            whole[version] = sha256
        else:
            store.drop_delta(version)
            damage.append(f"the delta to version {version} is damaged")
    return whole, damage


def _replayed(store: Store, state: ModelState, deltas: dict[int, bytes], newest: int) -> ModelState:
    """As far towards `newest` as the deltas lead."""
    for version in range(state.version + 1, newest + 1):
        body = store.delta_body(deltas[version]) if version in deltas else None
        if body is None:
            return state
        try:
            state = codec.apply_delta(state, codec.decode_delta(body, state.layout))
        except PayloadError as error:  # whole, but of another version than its row says
            LOGGER.warning("the delta to version %d is another one: %s", version, error)
            return state
    return state


def _salvaged(state: ModelState, model: FleetModel, checkpoints: dict[int, Checkpoint]) -> FleetModel:
    """`state` with what is whole of its own checkpoint.

    Without it, what broadcasts lost so far is forgotten, for it cannot be told which part of it was made good since;
    the ranks keep the scores of `model`, the last whole one.
    """
    own = checkpoints.get(state.version)
    return FleetModel(
        state, _residual(own, state.layout), _importance(own, model.importance * state.mask, state.layout)
    )


def _residual(checkpoint: Checkpoint | None, layout: Layout) -> Rows:
    try:
        return layout.empty_rows() if checkpoint is None else states.from_bytes(checkpoint.residual, layout).rows
    except PayloadError:
        return layout.empty_rows()


def _importance(checkpoint: Checkpoint | None, otherwise: Float64, layout: Layout) -> Float64:
    try:
        return otherwise if checkpoint is None else importance_from(checkpoint, layout)
    except PayloadError:
        return otherwise
