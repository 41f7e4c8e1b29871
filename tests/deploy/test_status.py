"""The status of runs and agents, read from their databases while they are in use."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from coordinator.store import Contribution, DeviceRow, Store
from deploy.folders import AGENT_DB, COORDINATOR_DB
from deploy.status import DeviceStatus, agent_status, fleet_status
from edge_agent.meter import Account
from edge_agent.store import Outgoing
from edge_agent.store import Store as AgentStore
from edge_agent.wire import messages as m
from edge_agent.wire.errors import StoreError
from tests.disks import GARBAGE, damage
from tests.runs import CAPABILITY, CLASSES, FLEET, ROUNDS, make_agent, make_config, make_record, make_run, make_state
from tests.runs import start_run as start

READY = m.Ready(bytes(32), 40, 6, 12, 2, CAPABILITY)


def test_a_run_that_was_only_started(tmp_path: Path) -> None:
    start(make_config(tmp_path))
    status = fleet_status(tmp_path)
    assert (status.fleet, status.rounds, status.closed) == (FLEET, ROUNDS, 0)
    assert (status.open_round, status.ranks_alive, status.records, status.devices) == (None, None, (), ())


def test_a_run_between_rounds(tmp_path: Path) -> None:
    status = fleet_status(make_run(make_config(tmp_path), make_state(2)))
    assert (status.closed, status.open_round) == (2, None)
    assert status.ranks_alive == make_record(2).ranks_alive
    assert status.records == (make_record(1), make_record(2))


def test_an_open_round_is_read_while_the_coordinator_writes(tmp_path: Path) -> None:
    running = Store(make_run(make_config(tmp_path), make_state(1)) / COORDINATOR_DB)
    for device in ("pi-1", "pi-2"):
        running.keep_plan(2, device, b"plan")
    assert fleet_status(tmp_path).pending == ("pi-1", "pi-2")
    running.keep_contribution(2, Contribution("pi-2", bytes(32), b"report", b"body", 2))
    status = fleet_status(tmp_path)
    assert (status.open_round, status.answered, status.pending) == (2, ("pi-2",), ("pi-1",))
    running.close()


def test_devices_with_what_they_said_last(tmp_path: Path) -> None:
    store = Store(make_run(make_config(tmp_path), make_state(1)) / COORDINATOR_DB)
    store.keep_device(DeviceRow("pi-1", 1, 5, True, msgspec.msgpack.encode(READY), ""))
    store.keep_device(DeviceRow("pi-2", 1, 1, False, None, "the connection was lost"))
    store.close()
    assert fleet_status(tmp_path).devices == (
        DeviceStatus("pi-1", True, 40, CAPABILITY.budget_bytes, 2, ""),
        DeviceStatus("pi-2", False, None, None, None, "the connection was lost"),
    )


def test_damaged_rows_do_not_hide_the_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_run(make_config(tmp_path), make_state(3)) / COORDINATOR_DB
    store = Store(path)
    for name in ("pi-1", "pi-2"):
        store.keep_device(DeviceRow(name, 1, 5, True, msgspec.msgpack.encode(READY), ""))
    store.put(objectives=GARBAGE)
    store.close()
    damage(path, "UPDATE device SET ready = ? WHERE name = 'pi-1'", GARBAGE)
    damage(path, "UPDATE round SET record = ? WHERE number = 3", GARBAGE)
    status = fleet_status(tmp_path)
    damaged, whole = status.devices
    assert whole == DeviceStatus("pi-2", True, 40, CAPABILITY.budget_bytes, 2, "")
    assert (damaged.name, damaged.examples) == ("pi-1", None) and "what pi-1 can do cannot be read" in damaged.note
    assert (status.closed, status.records, status.objectives) == (3, (make_record(1), make_record(2)), ())
    assert any("the record of round 3 cannot be read" in line for line in caplog.messages)


def test_a_database_without_a_run_says_so(tmp_path: Path) -> None:
    Store(tmp_path / COORDINATOR_DB).close()
    with pytest.raises(StoreError, match="start its coordinator"):
        fleet_status(tmp_path)


@pytest.mark.parametrize("read", [fleet_status, agent_status])
def test_looking_makes_no_database(tmp_path: Path, read: object) -> None:
    assert callable(read)
    with pytest.raises(StoreError):
        read(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_agent_before_it_joined(tmp_path: Path) -> None:
    AgentStore(tmp_path / AGENT_DB).close()
    status = agent_status(tmp_path)
    assert (status.fleet, status.model, status.version, status.boots) == (None, None, 0, 0)


def test_an_agent_whose_update_waits(tmp_path: Path) -> None:
    running = AgentStore(make_agent(tmp_path, make_state(2)) / AGENT_DB)
    model = running.model()
    assert model is not None
    running.keep_round(model, Outgoing(3, bytes(32), b"update", b"report"))
    running.keep(account=Account(10, 20, 1, 30), capability=CAPABILITY)
    status = agent_status(tmp_path)
    assert (status.fleet, status.classes, status.model) == (FLEET, len(CLASSES), "model")
    assert (status.version, status.boots, status.budget_bytes) == (2, 1, CAPABILITY.budget_bytes)
    assert (status.outbox_round, status.outbox_bytes) == (3, len(b"update"))
    assert (status.bytes_up, status.bytes_down, status.pack_bytes_down) == (10, 20, 30)
    running.close()


def test_an_agent_whose_pack_is_not_there_yet(tmp_path: Path) -> None:
    status = agent_status(make_agent(tmp_path, None, with_pack=False))
    assert (status.fleet, status.model, status.outbox_round) == (FLEET, None, None)
