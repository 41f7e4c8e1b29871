"""What the rows of the coordinator's database hold, decoded: whoever reads one reads it here.

A row may be damaged, like anything on a disk. Then it is a StoreError, which names the database, the row and what to
do; where the service can go on without the row, its reader does, and logs it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import msgspec

from coordinator.events import RoundRecord
from coordinator.store import AGAIN, DeviceRow, Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import StoreError

LOGGER = logging.getLogger("rankfleet.coordinator")


def ready_of(store: Store, row: DeviceRow) -> m.Ready | None:
    """What a device last said that it can do; None before it was ready once.

    Raises:
        StoreError: the row is damaged.
    """
    if row.ready is None:
        return None
    what = f"what {row.name} can do"
    return store.read(row.ready, m.Ready, what, "it is told again by the device when it next speaks")


def plan_of(store: Store, number: int, device: str, body: bytes) -> m.Plan:
    """The plan of a device for round `number`, from its row of `Store.plans`.

    Raises:
        StoreError: the row is damaged.
    """
    remedy = "it is made again for the device when this is due, or when the coordinator starts"
    return store.read(body, m.Plan, f"the plan of {device} for round {number}", remedy)


def report_of(store: Store, number: int, device: str, body: bytes) -> m.RoundReport:
    """The report of a device on round `number`, from its row of `Store.contributors`.

    Raises:
        StoreError: the row is damaged.
    """
    return store.read(body, m.RoundReport, f"the report of {device} on round {number}", AGAIN)


def record_of(store: Store, number: int, body: bytes) -> RoundRecord:
    """The record of the closed round `number`, from its row of `Store.rounds`.

    Raises:
        StoreError: the row is damaged.
    """
    remedy = "the run goes on without it"
    return store.read(body, RoundRecord, f"the record of round {number}", remedy, msgspec.json.decode)


def records_of(store: Store) -> Iterator[RoundRecord]:
    """The records of all closed rounds but damaged ones, which are logged: what comes is planned by what the others
    show."""
    for number, body in store.rounds():
        try:
            yield record_of(store, number, body)
        except StoreError as error:
            LOGGER.warning("%s", error)


def check_contribution(store: Store, number: int, device: str, report: bytes) -> None:
    """Raises StoreError if the update of a device for round `number`, or its report, is not what was put there."""
    report_of(store, number, device, report)
    store.contribution_body(number, device)


def drop_damaged(store: Store, number: int) -> dict[str, str]:
    """Drops the updates of round `number` that are damaged: what is wrong with each, by device."""
    damaged = {}
    for device, (_, report) in store.contributors(number).items():
        try:
            check_contribution(store, number, device, report)
        except StoreError as error:
            damaged[device] = str(error)
    for device in damaged:
        store.drop_contribution(number, device)
    return damaged
