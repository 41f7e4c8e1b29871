"""The page of one device: what its last rounds cost it, and what happened to it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from coordinator import journal as journals
from coordinator.rows import report_of
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import EnrolmentError, StoreError

ROUNDS = 12
LINES = 200
NOT_FOUND = 404


class DeviceRound(msgspec.Struct, frozen=True):
    """What one round cost a device, as it reported."""

    round: int
    report: m.RoundReport


class DevicePage(msgspec.Struct, frozen=True):
    """Its last rounds and what happened, the newest first."""

    name: str
    rounds: tuple[DeviceRound, ...]
    log: tuple[journals.Line, ...]


def device_page(run_dir: Path, name: str) -> DevicePage:
    """The page of the device `name`.

    Raises:
        EnrolmentError: the run knows no such device.
        StoreError: the database cannot be read.
    """
    if not (run_dir / DATABASE).exists():
        raise EnrolmentError(f"no device {name!r}: the rounds have not begun", NOT_FOUND)
    store = Store(run_dir / DATABASE, read_only=True)
    try:
        if all(row.name != name for row in store.devices()):
            raise EnrolmentError(f"no device {name!r} has spoken yet", NOT_FOUND)
        return DevicePage(name, tuple(_rounds(store, name)), tuple(_log(run_dir, name)))
    finally:
        store.close()


def _rounds(store: Store, name: str) -> list[DeviceRound]:
    found = []
    for number, body in store.reports_by(name, ROUNDS):
        try:
            found.append(DeviceRound(number, report_of(store, number, name, body)))
        except StoreError:
            continue  # the coordinator logs it, and asks for it again where it matters
    return found


def _log(run_dir: Path, name: str) -> list[journals.Line]:
    path = run_dir / journals.FILE
    if not path.exists():
        return []
    journal = journals.Journal(path, read_only=True)
    try:
        return journal.lines(LINES, name)
    finally:
        journal.close()
