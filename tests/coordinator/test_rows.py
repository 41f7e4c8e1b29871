"""Rows of the coordinator's database that are whole, and rows that an UPDATE has damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from coordinator import rows
from coordinator.store import Checkpoint, Contribution, DeviceRow, Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import StoreError
from tests.disks import GARBAGE, damage
from tests.runs import CAPABILITY, make_record
from tests.wire.examples import FROM_COORDINATOR, REPORT

READY = m.Ready(bytes(32), 40, 6, 12, 2, CAPABILITY)
PLAN = next(message for message in FROM_COORDINATOR if isinstance(message, m.Plan))
BODY = b"an update"
DEVICES = ("pi-1", "pi-2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "coordinator.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """Two rounds are closed, the third has a plan and an update of two devices."""
    store = Store(path)
    report = msgspec.msgpack.encode(REPORT)
    for number in (1, 2):
        record = msgspec.json.encode(make_record(number))
        store.close_round(number, Checkpoint(number, b"", b"", b""), b"delta", record)
    for device in DEVICES:
        store.keep_device(DeviceRow(device, 1, 5, True, msgspec.msgpack.encode(READY), ""))
        store.keep_plan(3, device, msgspec.msgpack.encode(PLAN))
        store.keep_contribution(3, Contribution(device, hashlib.sha256(BODY).digest(), report, BODY, 3))
    yield store
    store.close()


def a_ready(store: Store) -> m.Ready | None:
    return rows.ready_of(store, store.devices()[0])


def a_plan(store: Store) -> m.Plan:
    return rows.plan_of(store, 3, "pi-1", store.plans(3)["pi-1"])


def a_report(store: Store) -> m.RoundReport:
    return rows.report_of(store, 3, "pi-1", store.contributors(3)["pi-1"][1])


def a_record(store: Store) -> object:
    return rows.record_of(store, *store.rounds()[0])


def an_update(store: Store) -> bytes:
    return store.contribution_body(3, "pi-1")


def test_whole_rows_are_what_was_put_there(store: Store) -> None:
    assert (a_ready(store), a_plan(store), a_report(store)) == (READY, PLAN, REPORT)
    assert list(rows.records_of(store)) == [a_record(store), make_record(2)] == [make_record(1), make_record(2)]
    assert an_update(store) == BODY
    assert rows.drop_damaged(store, 3) == {}
    assert store.contributors(3).keys() == set(DEVICES)


def test_a_device_that_never_was_ready_has_no_ready(store: Store) -> None:
    assert rows.ready_of(store, DeviceRow("pi-3", 1, 1, True, None, "")) is None


@pytest.mark.parametrize("value", [GARBAGE, b"", "text", 7, GARBAGE.decode("latin-1")], ids=repr)
@pytest.mark.parametrize(
    ("column", "read", "names"),
    [
        ("device.ready", a_ready, "what pi-1 can do"),
        ("plan.body", a_plan, "the plan of pi-1 for round 3"),
        ("contribution.report", a_report, "the report of pi-1 on round 3"),
        ("contribution.body", an_update, "the update of pi-1 for round 3"),
        ("contribution.sha256", an_update, "the update of pi-1 for round 3"),
        ("round.record", a_record, "the record of round 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_row_names_the_database_itself_and_what_to_do(
    store: Store, path: Path, column: str, read: Callable[[Store], object], names: str, value: object
) -> None:
    table, name = column.split(".")
    damage(path, f"UPDATE {table} SET {name} = ?", value)
    with pytest.raises(StoreError) as caught:
        read(store)
    said = str(caught.value)
    assert said.startswith(f"{path}: {names} cannot be read (") and "damaged" in said
    assert said.rpartition("; ")[2], "what to do"


@pytest.mark.parametrize("column", ["report", "body", "sha256"])
def test_a_damaged_update_is_dropped_whatever_is_wrong_with_it_and_no_other_is(
    store: Store, path: Path, column: str
) -> None:
    damage(path, f"UPDATE contribution SET {column} = ? WHERE device = 'pi-2'", GARBAGE)
    dropped = rows.drop_damaged(store, 3)
    assert dropped.keys() == {"pi-2"} and "asks the device again" in dropped["pi-2"]
    assert store.contributors(3).keys() == {"pi-1"}
    assert rows.drop_damaged(store, 3) == {}


def test_a_damaged_record_is_left_out_and_logged(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(path, "UPDATE round SET record = ? WHERE number = 1", GARBAGE)
    assert list(rows.records_of(store)) == [make_record(2)]
    (said,) = caplog.messages
    assert "the record of round 1 cannot be read" in said
