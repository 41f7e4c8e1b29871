"""Where a run or an agent stands, from its database alone: read-only, also while it is running."""

from __future__ import annotations

from pathlib import Path

import msgspec

from coordinator import config as configs
from coordinator.events import Objective, RoundRecord
from coordinator.levels import load_history
from coordinator.rows import ready_of, records_of
from coordinator.store import DeviceRow, Store
from deploy.folders import AGENT_DB, COORDINATOR_DB
from edge_agent import store as agent_store
from edge_agent.fetching import Fetcher
from edge_agent.meter import Account
from edge_agent.wire import messages as m
from edge_agent.wire.errors import PackError, StoreError
from edge_agent.wire.pack import load_manifest


class DeviceStatus(msgspec.Struct, frozen=True):
    """One device. `version` is that of the model it last reported; figures are null until it was ready once."""

    name: str
    online: bool
    examples: int | None
    budget_bytes: int | None
    version: int | None
    note: str
    """Its last trouble."""


class FleetStatus(msgspec.Struct, frozen=True):
    """One run, without the records of rounds that are damaged.

    `closed` of `rounds` rounds are over. `open_round` is under way, null between rounds: the updates of the devices
    `answered` are on disk, those of `pending` are not (their notes say if they declined). `ranks_alive` is null before
    the first round was closed: until then all are.
    """

    fleet: str
    rounds: int
    closed: int
    open_round: int | None
    answered: tuple[str, ...]
    pending: tuple[str, ...]
    ranks_alive: int | None
    records: tuple[RoundRecord, ...]
    devices: tuple[DeviceStatus, ...]
    objectives: tuple[Objective, ...]
    """Every change of a service level, the oldest first."""


class AgentStatus(msgspec.Struct, frozen=True):
    """One agent's state folder. `version` 0 is the seed state; `outbox_round` is a round whose update is unsent."""

    fleet: str | None
    classes: int | None
    model: str | None
    """Of the pack on disk."""
    version: int
    outbox_round: int | None
    outbox_bytes: int
    boots: int
    budget_bytes: int | None
    bytes_up: int
    bytes_down: int
    pack_bytes_down: int


def fleet_status(run_dir: Path) -> FleetStatus:
    """The status of the coordinator's run in `run_dir`.

    Raises:
        StoreError: the database cannot be read, or no coordinator was started on it yet.
    """
    store = Store(run_dir / COORDINATOR_DB, read_only=True)
    try:
        return _fleet_status(store)
    finally:
        store.close()


def agent_status(state_dir: Path) -> AgentStatus:
    """The status of the agent with the state folder `state_dir`.

    Raises:
        StoreError: the database cannot be read.
    """
    store = agent_store.Store(state_dir / AGENT_DB, read_only=True)
    try:
        return _agent_status(store, state_dir)
    finally:
        store.close()


def _fleet_status(store: Store) -> FleetStatus:
    stored = store.get("config")
    if stored is None:
        raise StoreError(f"{store.path} holds no run yet: start its coordinator")
    config = configs.decode(stored)
    records = tuple(records_of(store))
    following = 1 + max((number for number, _ in store.rounds()), default=0)
    cohort, answered = store.plans(following), store.contributors(following)
    return FleetStatus(
        fleet=config.fleet,
        rounds=config.round.rounds,
        closed=following - 1,
        open_round=following if cohort else None,
        answered=tuple(answered),
        pending=tuple(device for device in cohort if device not in answered),
        ranks_alive=records[-1].ranks_alive if records else None,
        records=records,
        devices=tuple(_device_status(store, row) for row in store.devices()),
        objectives=load_history(store),
    )


def _device_status(store: Store, row: DeviceRow) -> DeviceStatus:
    try:
        ready = ready_of(store, row)
    except StoreError as error:
        return DeviceStatus(row.name, row.online, None, None, None, str(error))
    if ready is None:
        return DeviceStatus(row.name, row.online, None, None, None, row.note)
    return DeviceStatus(row.name, row.online, ready.examples, ready.capability.budget_bytes, ready.version, row.note)


def _agent_status(store: agent_store.Store, state_dir: Path) -> AgentStatus:
    welcome, outgoing = store.value("welcome", m.Welcome), store.outgoing()
    account, capability = store.value("account", Account) or Account(), store.value("capability", m.Capability)
    return AgentStatus(
        fleet=welcome.fleet if welcome else None,
        classes=len(welcome.classes) if welcome else None,
        model=_model(state_dir, welcome),
        version=store.version(),
        outbox_round=outgoing.round if outgoing else None,
        outbox_bytes=len(outgoing.body) if outgoing else 0,
        boots=store.value("boot", int) or 0,
        budget_bytes=capability.budget_bytes if capability else None,
        bytes_up=account.bytes_up,
        bytes_down=account.bytes_down,
        pack_bytes_down=account.pack_bytes_down,
    )


def _model(state_dir: Path, welcome: m.Welcome | None) -> str | None:
    """Name of the pack's model; None while the pack is not there."""
    if welcome is None:
        return None
    try:
        return load_manifest(Fetcher(state_dir).pack_dir(welcome.pack.sha256)).model
    except PackError:
        return None
