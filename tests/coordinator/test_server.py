"""The coordinator as its devices see it: a real one in a thread, with scripted devices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from coordinator import events
from coordinator.config import CoordinatorConfig, HeadSettings
from coordinator.run import DATABASE
from coordinator.store import Contribution, Store
from edge_agent.wire import frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import LinkError, StoreError
from edge_agent.wire.link import Disconnected
from edge_agent.wire.memory_link import MemoryBroker
from edge_agent.wire.ranks import HEAD
from edge_agent.wire.state import seed_state
from tests.coordinator.devices import NAMES, Devices, Start, an_open_round, last_rounds
from tests.runs import FLEET
from tests.scripted import (
    CAPABILITY,
    Device,
    all_of,
    catch_up,
    last_state,
    make_config,
    tiny_layout,
)

# Whole runs


def test_a_whole_run_of_three_devices(start: Start, devices: Devices, config: CoordinatorConfig) -> None:
    gateway = start()
    all_of(devices, Device.join)
    plans = [device.takes_part() for device in devices.values()]
    assert {(plan.round, plan.version, plan.deltas) for plan in plans} == {(1, 0, ())}
    seed = seed_state(tiny_layout(), config.seed)
    for device in devices.values():
        plan = device.hears(m.Plan)
        state = catch_up(device, seed, plan.deltas)
        assert states.digest(state) == plan.state_sha256
        device.offer(plan)
        device.hears(m.Acknowledged)
        device.version = plan.version
    finals = {device.name: device.hears(m.Final) for device in devices.values()}
    for name, final in finals.items():
        assert states.digest(catch_up(devices[name], state, final.deltas)) == final.state_sha256
        devices[name].say(m.Finished(final.version, 0.5, 10, 20, 30))
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))
    assert gateway.ends() == ()
    assert [event.cohort for event in gateway.told(events.Opened)] == [NAMES, NAMES]
    assert [event.record.contributors for event in gateway.told(events.Closed)] == [NAMES, NAMES]
    assert gateway.told(events.Refused) == []
    assert gateway.events[-1] == events.Done(2, ())


def with_head_start(config: CoordinatorConfig, run_dir: Path) -> CoordinatorConfig:
    return msgspec.structs.replace(config, run_dir=run_dir, head=HeadSettings("discriminant"))


def test_a_first_round_of_statistics_starts_the_head_and_the_run_goes_on_with_training(
    start: Start, devices: Devices, config: CoordinatorConfig, tmp_path: Path
) -> None:
    gateway = start(with_head_start(config, tmp_path))
    all_of(devices, Device.join)
    first = [device.takes_part() for device in devices.values()]
    assert {(plan.round, plan.work) for plan in first} == {(1, "class_axes")}
    plan = devices["pi-1"].hears(m.Plan)
    assert (plan.round, plan.version, plan.work) == (2, 1, "train")
    seed = seed_state(tiny_layout(), config.seed)
    state = catch_up(devices["pi-1"], seed, plan.deltas)
    assert states.digest(state) == plan.state_sha256
    assert (state.mask == seed.mask).all() and (state.rows[HEAD] != seed.rows[HEAD]).any()
    assert all((state.rows[one.name] == seed.rows[one.name]).all() for one in state.layout.modules)
    devices["pi-1"].offer(plan)
    devices["pi-1"].hears(m.Acknowledged)
    for name in ("pi-2", "pi-3"):
        devices[name].takes_part()
    last_rounds(devices, 0)
    assert gateway.ends() == ()
    started, trained = (event.record for event in gateway.told(events.Closed))
    assert (started.loss, started.ranks_alive) == (None, tiny_layout().ranks)
    assert trained.loss is not None and trained.ranks_alive < tiny_layout().ranks


def test_restarted_in_a_round_of_statistics_the_head_is_the_same_to_the_bit(
    broker: MemoryBroker, start: Start, devices: Devices, config: CoordinatorConfig, tmp_path: Path
) -> None:
    once, again = (with_head_start(config, tmp_path / name) for name in ("once", "again"))
    gateway, plans = an_open_round(start, devices, changed=once)
    devices["pi-1"].offer(plans["pi-1"])
    devices["pi-1"].hears(m.Acknowledged)
    gateway.crash()
    start(once)
    for name, device in devices.items():
        device.hears(m.Welcome)
        device.say(device.ready())
        if name != "pi-1":
            device.offer(device.hears(m.Plan))
            device.hears(m.Acknowledged)
    last_rounds(devices)
    start(again)
    others = {name: Device(broker, name) for name in NAMES}
    all_of(others, Device.join)
    last_rounds(others, 2)
    assert states.digest(last_state(once)) == states.digest(last_state(again))


def test_the_pack_is_pulled_in_chunks(start: Start, devices: Devices, config: CoordinatorConfig) -> None:
    start()
    device = devices["pi-1"]
    device.say(m.Hello("0.1.0", None, 0))
    manifest = device.hears(m.Welcome).pack
    body = device.pull(manifest, chunk_bytes=1024)
    assert body == (config.pack / "manifest.json").read_bytes()
    for entry in msgspec.json.decode(body)["files"].values():
        ref = m.ObjectRef("pack-file", bytes.fromhex(entry["sha256"]), entry["size_bytes"])
        assert hashlib.sha256(device.pull(ref, chunk_bytes=2**16)).digest() == ref.sha256
    device.say(m.Want(bytes(32), 4096, (0,)))
    assert device.hears(m.Missing) == m.Missing(bytes(32))


def test_an_update_is_acknowledged_only_once_it_is_on_disk(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    start()
    all_of(devices, Device.join)
    device = devices["pi-1"]
    offer = device.offer(device.hears(m.Plan))
    device.hears(m.Acknowledged)
    store = Store(config.run_dir / DATABASE, read_only=True)
    sha256, report = store.contributors(1)["pi-1"]
    assert sha256 == offer.update.sha256
    assert msgspec.msgpack.decode(report, type=m.RoundReport) == offer.report
    assert store.contribution_body(1, "pi-1") == device.objects[sha256]
    store.close()


class FullStore(Store):
    """A store on a disk that is full when an update comes."""

    def keep_contribution(self, number: int, row: Contribution) -> None:
        raise StoreError("disk full")


def test_a_store_that_fails_ends_the_run_and_a_restart_takes_the_update(start: Start, devices: Devices) -> None:
    gateway = start(store=FullStore)
    all_of(devices, Device.join)
    plans = {name: device.hears(m.Plan) for name, device in devices.items()}
    devices["pi-1"].offer(plans["pi-1"])
    devices["pi-1"].hears_nothing(m.Acknowledged)
    with pytest.raises(StoreError, match="disk full"):
        gateway.ends()
    gateway = start()
    for name, device in devices.items():
        device.hears(m.Welcome)
        device.say(device.ready())
        assert device.hears(m.Plan) == plans[name]
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    last_rounds(devices)
    assert gateway.ends() == ()


# Duplicates, replays, garbage


def test_duplicates_and_replays_are_ignored(start: Start, devices: Devices) -> None:
    gateway = start()
    device = devices["pi-1"]
    device.join()
    gateway.tells(events.Joined)
    offline = device.say(m.Offline("bye"))
    gateway.tells(events.Left)
    device.say(device.ready())
    gateway.tells(events.Joined, 2)
    device.send(offline)
    device.say(m.Progress(1, "train", 1, 2, 0.5, 61.5))
    gateway.tells(events.Training)
    assert len(gateway.told(events.Left)) == 1


def test_an_earlier_boot_is_told_so(start: Start, broker: MemoryBroker) -> None:
    start()
    Device(broker, "pi-1", boot=7).join()
    replaced = Device(broker, "pi-1", boot=2)
    replaced.say(m.Hello("0.1.0", None, 0))
    assert replaced.hears(m.Outdated) == m.Outdated(7)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"RF", b"\xff" * 100, frame.encode(m.Leave("not ours to say"), 1, 99)],
    ids=["empty", "cut", "noise", "the other direction"],
)
def test_garbage_is_refused_and_changes_nothing(start: Start, devices: Devices, garbage: bytes) -> None:
    gateway, plans = an_open_round(start, devices)
    devices["pi-1"].send(garbage)
    refused = devices["pi-1"].hears(m.Rejected)
    assert (refused.round, refused.final) == (None, False)
    for name, device in devices.items():
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    last_rounds(devices)
    assert gateway.ends() == ()


def test_another_protocol_version_is_refused_for_good(start: Start, devices: Devices) -> None:
    start()
    device = devices["pi-1"]
    payload = bytearray(frame.encode(m.Hello("9.0", None, 0), 1, 1))
    payload[2] += 1
    device.send(bytes(payload))
    refused = device.hears(m.Rejected)
    assert refused.final
    assert "protocol" in refused.reason


def test_a_version_that_the_fleet_never_had_is_refused_for_good(start: Start, devices: Devices) -> None:
    start()
    devices["pi-1"].version = 5
    devices["pi-1"].join()
    refused = devices["pi-1"].hears(m.Rejected)
    assert refused.final
    assert "state folder" in refused.reason


def test_another_pack_is_answered_with_the_terms(start: Start, devices: Devices) -> None:
    gateway = start()
    device = devices["pi-1"]
    device.say(msgspec.structs.replace(device.ready(), pack=bytes(32)))
    assert device.hears(m.Welcome).fleet == FLEET
    assert gateway.told(events.Joined) == []


def test_messages_out_of_turn_change_nothing(start: Start, devices: Devices) -> None:
    gateway = start()
    device = devices["pi-1"]
    device.say(m.Chunk(bytes(32), 0, b"unasked"))
    device.say(m.Missing(bytes(32)))
    device.say(m.Finished(2, None, 1, 1, 1))
    device.say(m.Declined(1, "no round is open", None))
    device.say(m.Offline("never was online"))
    all_of(devices, Device.join)
    last_rounds(devices, 2)
    assert gateway.ends() == ()


def test_a_loss_that_is_not_finite_can_be_told_as_json(start: Start, devices: Devices) -> None:
    gateway = start()
    devices["pi-1"].say(m.Progress(1, "train", 1, 2, float("nan"), float("nan")))
    (event,) = gateway.tells(events.Training)
    assert (event.loss, event.temperature_c) == (None, None)
    assert msgspec.json.decode(msgspec.json.encode(event), type=events.AnyEvent) == event


# Devices that come and go


def test_a_device_lost_by_its_will_gets_its_plan_again(start: Start, devices: Devices) -> None:
    gateway, plans = an_open_round(start, devices)
    device = devices["pi-2"]
    device.offer(plans["pi-2"])
    device.hears(m.Want)
    device.vanish()
    assert gateway.tells(events.Left) == [events.Left("pi-2", "the connection was lost")]
    device.restart()
    device.join()
    assert device.hears(m.Plan) == plans["pi-2"]
    assert len(gateway.tells(events.Joined, 4)) == 4
    for name, each in devices.items():
        each.offer(plans[name])
        each.hears(m.Acknowledged)
    last_rounds(devices)
    assert gateway.ends() == ()


def test_a_device_that_stays_away_is_not_waited_for_after_the_grace_time(
    start: Start, devices: Devices, tmp_path: Path, quick: None
) -> None:
    gateway, plans = an_open_round(start, devices, changed=make_config(tmp_path, grace_s=0.2))
    devices.pop("pi-2").vanish()
    for name, device in devices.items():
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    last_rounds(devices)
    assert [event.record.contributors for event in gateway.told(events.Closed)] == [("pi-1", "pi-3")] * 2
    assert gateway.ends() == ("pi-2",)


def test_a_device_without_the_memory_is_declined_with_the_reason_and_the_others_go_on(
    start: Start, devices: Devices
) -> None:
    devices["pi-2"].capability = msgspec.structs.replace(CAPABILITY, budget_bytes=1000)
    gateway = start()
    all_of(devices, Device.join)
    refused = devices["pi-2"].hears(m.Rejected)
    assert (refused.round, refused.final) == (1, False)
    assert "raise memory.budget_bytes" in refused.reason
    for name in ("pi-1", "pi-3"):
        devices[name].takes_part()
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-3")
    smallest = gateway.told(events.Refused)[0].smallest_budget_bytes
    assert smallest is not None
    assert smallest > 1000


def test_a_device_that_does_not_train_gets_the_model_to_predict_with(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    start()
    devices["pi-2"].capability = msgspec.structs.replace(CAPABILITY, budget_bytes=1000)
    all_of(devices, Device.join)
    small, unwilling, willing = devices["pi-2"], devices["pi-1"], devices["pi-3"]
    for device in (unwilling, willing):
        device.takes_part()
    plan = unwilling.hears(m.Plan)
    unwilling.say(m.Declined(plan.round, "no memory", 1))
    for device in (small, unwilling):
        model = device.hears(m.Final)
        before = states.seed_state(device.layout, config.seed)
        assert (model.version, model.state_sha256) == (plan.version, plan.state_sha256)
        assert states.digest(catch_up(device, before, model.deltas)) == plan.state_sha256
    small.say(m.Finished(plan.version, None, 1, 2, 3))
    willing.takes_part()


def test_what_is_not_answered_is_said_again(start: Start, devices: Devices, quick: None) -> None:
    gateway, plans = an_open_round(start, devices)
    assert devices["pi-1"].hears(m.Plan) == plans["pi-1"]
    all_of(devices, Device.takes_part)
    all_of(devices, Device.takes_part)
    finals = [devices["pi-1"].hears(m.Final) for _ in range(3)]
    assert len(set(finals)) == 1
    all_of(devices, lambda device: device.say(m.Finished(2, None, 1, 2, 3)))
    all_of(devices, lambda device: device.hears(m.Leave))
    assert gateway.ends() == ()


# Restarts


def test_restarted_in_a_round_the_acknowledged_updates_count_and_the_model_is_the_same_to_the_bit(
    broker: MemoryBroker, start: Start, devices: Devices, config: CoordinatorConfig, tmp_path: Path
) -> None:
    gateway, plans = an_open_round(start, devices)
    devices["pi-1"].offer(plans["pi-1"])
    devices["pi-1"].hears(m.Acknowledged)
    devices["pi-2"].offer(plans["pi-2"])
    devices["pi-2"].hears(m.Want)
    gateway.crash()
    gateway = start()
    for name, device in devices.items():
        device.hears(m.Welcome)
        device.say(device.ready())
        if name != "pi-1":
            assert device.hears(m.Plan) == plans[name]
            device.offer(plans[name])
            device.hears(m.Acknowledged)
    last_rounds(devices)
    assert gateway.ends() == ()
    uninterrupted = make_config(tmp_path / "again")
    start(uninterrupted)
    others = {name: Device(broker, name) for name in NAMES}
    all_of(others, Device.join)
    last_rounds(others, 2)
    assert states.digest(last_state(config)) == states.digest(last_state(uninterrupted))


# The link


def test_a_broker_that_refuses_ends_the_run(start: Start) -> None:
    gateway = start()
    gateway._link._inner._inbox.put(Disconnected("bad password", fatal=True))
    with pytest.raises(LinkError, match="bad password"):
        gateway.ends()


def test_after_a_lost_connection_everyone_is_greeted_again(
    broker: MemoryBroker, start: Start, devices: Devices
) -> None:
    gateway, plans = an_open_round(start, devices)
    broker.cut(topics.COORDINATOR)
    broker.restore(topics.COORDINATOR)
    for name, device in devices.items():
        device.hears(m.Welcome)
        device.say(device.ready())
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    last_rounds(devices)
    assert gateway.ends() == ()
