"""A real coordinator whose database an UPDATE has damaged, as it runs or before it starts: it goes on, and says so."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from coordinator import events
from coordinator.config import CoordinatorConfig
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.memory_link import MemoryBroker
from tests.coordinator.devices import NAMES, Devices, Start, an_open_round, last_rounds
from tests.disks import GARBAGE, damage
from tests.scripted import PATIENCE_S, Device, Gateway, all_of, last_state, make_config


@pytest.fixture
def path(config: CoordinatorConfig) -> Path:
    return config.run_dir / DATABASE


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The digest of the model that two rounds of all devices lead to."""
    broker, config = MemoryBroker(), make_config(tmp_path_factory.mktemp("undisturbed"))
    devices = {name: Device(broker, name) for name in NAMES}
    gateway = Gateway(broker, config)
    all_of(devices, Device.join)
    last_rounds(devices, 2)
    assert gateway.ends() == ()
    return states.digest(last_state(config))


def stores(device: Device, plan: m.Plan) -> None:
    offer = device.offer(plan)
    assert device.hears(m.Acknowledged) == m.Acknowledged(plan.round, offer.update.sha256)
    device.version = plan.version


def says_ready(device: Device) -> None:
    device.hears(m.Welcome)
    device.say(device.ready())


FAILING = """CREATE TRIGGER failing AFTER INSERT ON contribution WHEN NEW.device = 'pi-3' BEGIN
    UPDATE contribution SET {column} = x'c1' WHERE device = 'pi-3'; END"""
"""A disk that damages the last update of the round."""


@pytest.mark.parametrize("column", ["body", "report", "sha256"])
def test_an_update_that_is_damaged_when_its_round_closes_is_asked_for_again(
    start: Start, devices: Devices, config: CoordinatorConfig, path: Path, undisturbed: bytes, column: str
) -> None:
    gateway, plans = an_open_round(start, devices)
    for name in ("pi-1", "pi-2"):
        stores(devices[name], plans[name])
    damage(path, FAILING.format(column=column))
    stores(devices["pi-3"], plans["pi-3"])
    (told,) = gateway.tells(events.Refused)
    assert told.device == "pi-3" and "is damaged" in told.reason
    damage(path, "DROP TRIGGER failing")
    assert devices["pi-3"].hears(m.Plan) == plans["pi-3"]
    assert gateway.told(events.Closed) == []
    stores(devices["pi-3"], plans["pi-3"])
    assert gateway.tells(events.Closed)[0].record.contributors == tuple(devices)
    last_rounds(devices)
    assert gateway.ends() == ()
    assert states.digest(last_state(config)) == undisturbed


def test_a_round_closes_without_an_update_that_is_damaged_and_whose_device_is_gone(
    start: Start, devices: Devices, tmp_path: Path, path: Path
) -> None:
    gateway, plans = an_open_round(start, devices, changed=make_config(tmp_path, grace_s=0.5))
    for name in ("pi-1", "pi-2"):
        stores(devices[name], plans[name])
    devices["pi-1"].vanish()
    gateway.tells(events.Left)
    damage(path, "UPDATE contribution SET body = ? WHERE device = 'pi-1'", GARBAGE)
    stores(devices["pi-3"], plans["pi-3"])
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-2", "pi-3")


def test_an_update_that_is_damaged_while_nobody_runs_is_asked_for_again(
    start: Start, devices: Devices, config: CoordinatorConfig, path: Path, undisturbed: bytes
) -> None:
    gateway, plans = an_open_round(start, devices)
    for name in ("pi-1", "pi-2"):
        stores(devices[name], plans[name])
    gateway.tells(events.Received, 2)
    gateway.crash()
    damage(path, "UPDATE contribution SET report = ?, body = body WHERE device = 'pi-2'", GARBAGE)
    gateway = start()
    (mended,) = gateway.tells(events.Mended)
    assert (mended.version, mended.newest) == (0, 0) and "the report of pi-2 on round 1" in mended.reason
    all_of(devices, says_ready)
    for name in ("pi-2", "pi-3"):
        assert devices[name].hears(m.Plan) == plans[name]
        stores(devices[name], plans[name])
    assert gateway.tells(events.Closed)[0].record.contributors == tuple(devices)
    last_rounds(devices)
    assert gateway.ends() == ()
    assert states.digest(last_state(config)) == undisturbed


def test_a_plan_that_is_damaged_is_made_again_when_it_is_due(
    start: Start, devices: Devices, path: Path, quick: None
) -> None:
    _, plans = an_open_round(start, devices)
    damage(path, "UPDATE plan SET body = ?", GARBAGE)
    store = Store(path, read_only=True)
    limit_s = time.monotonic() + PATIENCE_S
    while store.plans(1) != {name: msgspec.msgpack.encode(plan) for name, plan in plans.items()}:
        assert time.monotonic() < limit_s, "the plans are still damaged"
    store.close()
    for name, device in devices.items():
        assert device.hears(m.Plan) == plans[name]
        stores(device, plans[name])


def test_a_plan_that_is_damaged_is_made_again_before_an_update_is_measured_by_it(
    start: Start, devices: Devices, path: Path
) -> None:
    gateway, plans = an_open_round(start, devices)
    damage(path, "UPDATE plan SET body = ?", GARBAGE)
    for name, device in devices.items():
        device.offer(plans[name])
        assert device.hears(m.Plan) == plans[name]
        stores(device, plans[name])
    assert gateway.tells(events.Closed)[0].record.contributors == tuple(devices)


def test_a_plan_that_is_damaged_while_nobody_runs_is_made_again(start: Start, devices: Devices, path: Path) -> None:
    gateway, plans = an_open_round(start, devices)
    gateway.crash()
    damage(path, "UPDATE plan SET body = ?", GARBAGE)
    gateway = start()
    all_of(devices, says_ready)
    for name, device in devices.items():
        assert device.hears(m.Plan) == plans[name]
        stores(device, plans[name])
    assert gateway.tells(events.Closed)[0].record.contributors == tuple(devices)


def test_a_device_whose_row_is_damaged_is_not_ready_until_it_says_so_again(
    start: Start, devices: Devices, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, plans = an_open_round(start, devices)
    gateway.crash()
    damage(path, "UPDATE device SET ready = ? WHERE name = 'pi-1'", GARBAGE)
    damage(path, "UPDATE device SET boot = 'seven' WHERE name = 'pi-2'")
    gateway = start()
    says_ready(devices["pi-3"])
    assert [event.device for event in gateway.tells(events.Joined)] == ["pi-3"]
    assert any("what pi-1 can do cannot be read" in line for line in caplog.messages)
    assert any("the row of a device is damaged" in line and "pi-2" in line for line in caplog.messages)
    says_ready(devices["pi-1"])
    devices["pi-2"].join()
    for name, device in devices.items():
        assert device.hears(m.Plan) == plans[name]
        stores(device, plans[name])
    assert gateway.tells(events.Closed)[0].record.contributors == tuple(devices)
    gateway.crash()
    store = Store(path)
    assert {row.name: row.note for row in store.devices()} == dict.fromkeys(devices, "")
    store.close()


def test_a_device_whose_row_is_damaged_gets_the_final_model_all_the_same(
    start: Start, devices: Devices, path: Path
) -> None:
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    all_of(devices, Device.takes_part)
    all_of(devices, lambda device: device.hears(m.Final))
    gateway.crash()
    damage(path, "UPDATE device SET ready = ?", GARBAGE)
    gateway = start()
    for device in devices.values():
        device.hears(m.Final)
        device.say(m.Finished(2, 0.5, 10, 20, 30))
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))
    assert gateway.ends() == ()


def test_devices_confirm_again_where_it_is_not_known_that_they_did(
    start: Start, devices: Devices, path: Path, quick: None
) -> None:
    gateway = start()
    all_of(devices, Device.join)
    last_rounds(devices, 2)
    assert gateway.ends() == ()
    damage(path, "UPDATE meta SET value = ? WHERE key = 'finished'", GARBAGE)
    gateway = start()
    for device in devices.values():
        device.restart()
        device.join()
        device.hears(m.Final)
        device.say(m.Finished(2, 0.5, 10, 20, 30))
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))
    assert gateway.ends() == ()


@pytest.mark.parametrize(("key", "value"), [("run", b"short"), ("boot", GARBAGE)])
def test_where_devices_would_not_know_the_run_again_it_gets_another_name(
    start: Start, devices: Devices, path: Path, key: str, value: bytes
) -> None:
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    gateway.crash()
    former = next(message for message in devices["pi-1"].heard if isinstance(message, m.Welcome))
    damage(path, "UPDATE meta SET value = ? WHERE key = ?", value, key)
    gateway = start()
    (mended,) = gateway.tells(events.Mended)
    assert (mended.version, mended.newest) == (1, 1) and "devices start anew" in mended.reason
    for device in devices.values():
        welcome = device.hears(m.Welcome)
        assert welcome.run != former.run and msgspec.structs.replace(welcome, run=former.run) == former
        device.version = 0
        device.say(device.ready())
        plan = device.hears(m.Plan)
        assert (plan.round, plan.version) == (2, 1)
        stores(device, plan)
    assert len(gateway.tells(events.Closed)) == 1


def test_damaged_records_and_objectives_do_not_stop_the_run(start: Start, devices: Devices, path: Path) -> None:
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    gateway.tells(events.Closed)
    gateway.crash()
    store = Store(path)
    store.put(objectives=GARBAGE)
    store.close()
    damage(path, "UPDATE round SET record = ?", GARBAGE)
    gateway = start()
    all_of(devices, says_ready)
    last_rounds(devices)
    assert gateway.ends() == ()
