"""The coordinator as its devices see it: a real one in a thread, with scripted devices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import events, farewell, server
from coordinator.config import CoordinatorConfig
from coordinator.run import DATABASE
from coordinator.store import Contribution, Store
from edge_agent.wire import codec, frame, rowset, topics
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import LinkError, StoreError
from edge_agent.wire.link import Disconnected
from edge_agent.wire.memory_link import MemoryBroker
from edge_agent.wire.ranks import HEAD, unpack_mask
from edge_agent.wire.state import seed_state
from tests.runs import FLEET
from tests.scripted import (
    CAPABILITY,
    Device,
    Gateway,
    all_of,
    catch_up,
    last_state,
    make_config,
    tiny_layout,
)

NAMES = ("pi-1", "pi-2", "pi-3")


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
def devices(broker: MemoryBroker) -> dict[str, Device]:
    return {name: Device(broker, name) for name in NAMES}


@pytest.fixture
def config(tmp_path: Path) -> CoordinatorConfig:
    return make_config(tmp_path)


@pytest.fixture
def start(broker: MemoryBroker, config: CoordinatorConfig) -> Iterator[Callable[..., Gateway]]:
    """Starts a coordinator; one that still runs at the end of the test is stopped."""
    started: list[Gateway] = []

    def make(changed: CoordinatorConfig = config, **options: Any) -> Gateway:
        started.append(Gateway(broker, changed, **options))
        return started[-1]

    yield make
    for gateway in started:
        gateway._link.broken.set()
        gateway.join()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody answered is said again at once, and nobody is waited for at the end."""
    monkeypatch.setattr(server, "REPEAT_S", 0.05)
    monkeypatch.setattr(farewell, "LEAVE_S", 0.2)


Start = Callable[..., Gateway]
Devices = dict[str, Device]


def last_rounds(devices: Devices, rounds: int = 1) -> None:
    for _ in range(rounds):
        all_of(devices, Device.takes_part)
    all_of(devices, lambda device: device.hears(m.Final))
    for device in devices.values():
        device.say(m.Finished(2, 0.5, 10, 20, 30))
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))


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


def test_the_pack_is_pulled_in_chunks(start: Start, devices: Devices, config: CoordinatorConfig) -> None:
    start()
    device = devices["pi-1"]
    device.say(m.Hello("0.1.0", None, 0))
    manifest = device.hears(m.Welcome).pack
    body = device.pull(manifest, chunk_bytes=300)
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
    device.say(m.Progress(1, "train", 1, 2, 0.5))
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
    devices["pi-1"].say(m.Progress(1, "train", 1, 2, float("nan")))
    (event,) = gateway.tells(events.Training)
    assert msgspec.json.decode(msgspec.json.encode(event), type=events.AnyEvent) == event


# Updates that cannot be used


def with_exact(device: Device, plan: m.Plan, value: float) -> bytes:
    """An update with `value` for the bias of a class, as a device that does not check itself would send it."""
    update = device.trained(plan)
    update.changes.tables[HEAD].exact[0] = value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowset, "_check", lambda *_: None)
        return codec.encode_update(update, device.layout)


def of_another_layout(device: Device, plan: m.Plan) -> bytes:
    other = Device.__new__(Device)
    other.name, other.layout = device.name, replace(device.layout, classes=device.layout.classes + 1)
    return codec.encode_update(other.trained(plan), other.layout)


def of_a_rank_not_asked_for(device: Device, plan: m.Plan) -> bytes:
    every = np.packbits(device.layout.full_mask().reshape(-1)).tobytes()
    return codec.encode_update(device.trained(msgspec.structs.replace(plan, trained=every)), device.layout)


def changed(device: Device, plan: m.Plan, **changes: Any) -> bytes:
    return codec.encode_update(device.trained(plan, **changes), device.layout)


UNUSABLE: dict[str, tuple[Callable[[Device, m.Plan], bytes], str]] = {
    "not a number": (lambda d, p: with_exact(d, p, np.nan), "not finite"),
    "infinite": (lambda d, p: with_exact(d, p, np.inf), "not finite"),
    "too large": (lambda d, p: with_exact(d, p, 65.0), "over 64"),
    "another layout": (of_another_layout, "layout"),
    "a rank that was not asked for": (of_a_rank_not_asked_for, "not told to train"),
    "another round": (lambda d, p: changed(d, p, round=7), "got (7, 1, 18)"),
    "another version": (lambda d, p: changed(d, p, version=0), "got (2, 0, 18)"),
    "other examples": (lambda d, p: changed(d, p, examples=19), "got (2, 1, 19)"),
    "no update": (lambda d, p: b"something else entirely", "expected a"),
    "cut short": (lambda d, p: changed(d, p)[:-9], "checksum"),
    "nothing": (lambda d, p: b"", "0 are offered"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_an_unusable_update_is_refused_and_the_round_goes_on_without_it(
    start: Start, devices: Devices, what: str
) -> None:
    make, reason = UNUSABLE[what]
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    plans = {name: device.hears(m.Plan) for name, device in devices.items()}
    bad = devices.pop("pi-2")
    assert not unpack_mask(plans["pi-2"].trained, bad.layout).all(), "ranks have been pruned by now"
    bad.offer_bytes(plans["pi-2"], make(bad, plans["pi-2"]))
    refused = bad.hears(m.Rejected)
    assert (refused.round, refused.final) == (2, False)
    (event,) = gateway.tells(events.Refused)
    assert event.device == "pi-2"
    assert event.reason == refused.reason
    assert reason in refused.reason
    for name, device in devices.items():
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    assert gateway.tells(events.Closed, 2)[1].record.contributors == ("pi-1", "pi-3")


def an_open_round(start: Start, devices: Devices, **options: Any) -> tuple[Gateway, dict[str, m.Plan]]:
    gateway = start(**options)
    all_of(devices, Device.join)
    return gateway, {name: device.hears(m.Plan) for name, device in devices.items()}


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"loss": float("nan")}, "diverge"),
        ({"phases": (m.Phase("train", float("inf"), 1.0, 1, 1, None, None, None),)}, "diverge"),
        ({"holdout_correct": 6, "holdout_total": 5}, "6 of 5"),
    ],
)
def test_an_impossible_report_is_refused(
    start: Start, devices: Devices, report: dict[str, object], reason: str
) -> None:
    _, plans = an_open_round(start, devices)
    devices["pi-1"].offer(plans["pi-1"], **report)
    refused = devices["pi-1"].hears(m.Rejected)
    assert refused.round == 1
    assert reason in refused.reason


def test_an_oversized_update_is_refused_before_a_byte_of_it_comes(start: Start, devices: Devices) -> None:
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    limit = codec.update_limit_bytes(device.layout)
    offer = device.offer(plans["pi-1"])
    device.hears(m.Acknowledged)
    device = devices["pi-2"]
    device.say(msgspec.structs.replace(offer, update=m.ObjectRef("update", bytes(32), limit + 1)))
    refused = device.hears(m.Rejected)
    assert refused.round == 1
    assert f"1 to {limit} bytes" in refused.reason
    assert not any(isinstance(message, m.Want) for message in device.heard)


def test_an_update_that_is_not_what_its_hash_says_is_refused(start: Start, devices: Devices) -> None:
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    body = codec.encode_update(device.trained(plans["pi-1"]), device.layout)
    offer = device.offer_bytes(plans["pi-1"], body)
    device.objects[offer.update.sha256] = bytes([*body[:-1], body[-1] ^ 1])
    refused = device.hears(m.Rejected)
    assert refused.round == 1
    assert "sha256" in refused.reason


def test_a_round_does_not_count_more_examples_than_its_sums_can_hold(start: Start, devices: Devices) -> None:
    gateway, plans = an_open_round(start, devices)
    for name, examples in (("pi-1", 18), ("pi-2", codec.MAX_EXAMPLES), ("pi-3", 18)):
        device = devices[name]
        device.offer(plans[name], device.trained(plans[name], examples=examples), examples=examples)
        device.hears(m.Rejected if name == "pi-2" else m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-3")


def test_a_device_that_declines_in_the_middle_of_its_upload(start: Start, devices: Devices) -> None:
    gateway, plans = an_open_round(start, devices)
    device = devices.pop("pi-2")
    device.offer(plans["pi-2"])
    want = device.hears(m.Want)
    device.say(m.Declined(1, "out of memory", 10**6))
    device._serve(want)
    for name, other in devices.items():
        other.offer(plans[name])
        other.hears(m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-3")
    assert gateway.told(events.Refused) == [events.Refused("pi-2", "out of memory", 10**6)]
    assert device.hears(m.Plan).round == 2


def test_the_same_offer_is_acknowledged_again_whenever_it_comes(start: Start, devices: Devices) -> None:
    _, plans = an_open_round(start, devices)
    offers = {name: device.offer(plans[name]) for name, device in devices.items()}
    for name, device in devices.items():
        device.hears(m.Acknowledged)
        device.say(offers[name])
        assert device.hears(m.Acknowledged).sha256 == offers[name].update.sha256
    devices["pi-1"].hears(m.Plan)
    devices["pi-1"].say(offers["pi-1"])
    assert devices["pi-1"].hears(m.Acknowledged) == m.Acknowledged(1, offers["pi-1"].update.sha256)


def test_another_update_of_the_same_round_is_refused(start: Start, devices: Devices) -> None:
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    device.offer(plans["pi-1"])
    device.hears(m.Acknowledged)
    device.offer(plans["pi-1"], device.trained(plans["pi-1"], examples=17), examples=17)
    assert "no place" in device.hears(m.Rejected).reason


def test_a_new_offer_takes_the_place_of_one_that_is_being_pulled(start: Start, devices: Devices) -> None:
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    device.offer(plans["pi-1"])
    device.hears(m.Want)
    offer = device.offer(plans["pi-1"], device.trained(plans["pi-1"], examples=17), examples=17)
    assert device.hears(m.Acknowledged).sha256 == offer.update.sha256


def test_an_update_of_a_closed_round_is_refused(start: Start, devices: Devices, config: CoordinatorConfig) -> None:
    _, plans = an_open_round(start, devices)
    late = devices.pop("pi-3")
    late.say(m.Declined(1, "not now", None))
    for name, device in devices.items():
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    assert late.hears(m.Plan).round == 2
    late.offer(plans["pi-3"])
    refused = late.hears(m.Rejected)
    assert (refused.round, refused.final) == (1, False)
    assert "not open" in refused.reason


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


def test_restarted_after_its_end_it_ends_again(start: Start, devices: Devices) -> None:
    gateway = start()
    all_of(devices, Device.join)
    last_rounds(devices, 2)
    assert gateway.ends() == ()
    assert start().ends() == ()


def test_restarted_before_its_farewell_the_devices_are_dismissed(start: Start, devices: Devices) -> None:
    gateway = start()
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    all_of(devices, Device.takes_part)
    for device in devices.values():
        device.hears(m.Final)
        device.say(m.Finished(2, None, 1, 2, 3))
    gateway.tells(events.Finished, 3)
    gateway.crash()
    gateway = start()
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))
    assert gateway.ends() == ()


def test_a_device_that_missed_the_end_gets_the_final_model_from_a_restart(
    start: Start, devices: Devices, tmp_path: Path, quick: None
) -> None:
    gateway = start(make_config(tmp_path, grace_s=0.2))
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    all_of(devices, Device.takes_part)
    late = devices.pop("pi-3")
    late.vanish()
    for device in devices.values():
        device.hears(m.Final)
        device.say(m.Finished(2, None, 1, 2, 3))
    for device in devices.values():
        device.hears(m.Leave)
        device.say(m.Offline("stopped"))
    assert gateway.ends() == ("pi-3",)
    gateway = start()
    late.restart()
    late.join()
    final = late.hears(m.Final)
    late.say(m.Finished(final.version, None, 1, 2, 3))
    late.hears(m.Leave)
    late.say(m.Offline("stopped"))
    assert gateway.ends() == ()


def test_a_device_that_cannot_keep_the_final_model_is_not_waited_for_as_for_a_round(
    start: Start, devices: Devices, tmp_path: Path, quick: None
) -> None:
    gateway = start(make_config(tmp_path, grace_s=0.2))
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    all_of(devices, Device.takes_part)
    for name, device in devices.items():
        final = device.hears(m.Final)
        said = m.Declined(final.version, "disk full", None) if name == "pi-3" else m.Finished(2, None, 1, 2, 3)
        device.say(said)
    assert gateway.ends() == ("pi-3",)


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
