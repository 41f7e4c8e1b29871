"""Updates as the coordinator takes them in, or refuses them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
import numpy as np
import pytest

from coordinator import events
from coordinator.config import CoordinatorConfig, GuardSettings, HeadSettings
from coordinator.guard import root_mean_square
from edge_agent.wire import codec, rowset
from edge_agent.wire import messages as m
from edge_agent.wire.pull import Puller
from edge_agent.wire.ranks import HEAD, unpack_mask
from tests.coordinator.devices import Devices, Start, an_open_round
from tests.scripted import (
    Device,
    all_of,
)


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


@pytest.mark.parametrize("start_of_head", ["seed", "class_means", "discriminant"])
def test_an_update_of_another_kind_of_round_is_refused(
    start: Start,
    devices: Devices,
    config: CoordinatorConfig,
    start_of_head: Literal["seed", "class_means", "discriminant"],
) -> None:
    changed = msgspec.structs.replace(config, head=HeadSettings(start_of_head))
    _, plans = an_open_round(start, devices, changed=changed)
    device, plan = devices["pi-1"], plans["pi-1"]
    if plan.work != "train":
        device.offer(plan, device.trained(plan), steps=3, loss=0.5, step_s=1.0)
    else:
        device.offer(plan, device.looked(plan), steps=0, loss=None, step_s=None)
    refused = device.hears(m.Rejected)
    assert (refused.round, refused.final) == (1, False)
    assert f"a round of {plan.work}" in refused.reason


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


def test_examples_that_were_stored_before_a_restart_count_towards_what_a_round_can_hold(
    start: Start, devices: Devices
) -> None:
    gateway, plans = an_open_round(start, devices)
    most = codec.MAX_EXAMPLES - 18
    for name, examples in (("pi-1", most - 1), ("pi-2", 18)):
        devices[name].offer(plans[name], devices[name].trained(plans[name], examples=examples), examples=examples)
        devices[name].hears(m.Acknowledged)
    gateway.crash()
    start()
    device = devices["pi-3"]
    device.hears(m.Welcome)
    device.say(device.ready())
    device.offer(device.hears(m.Plan))
    assert f"would bring it to {codec.MAX_EXAMPLES + 17}" in device.hears(m.Rejected).reason


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


def test_a_device_that_connects_again_is_asked_at_once_for_what_was_on_its_way(
    start: Start, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.intake.Puller", functools.partial(Puller, timeout_s=1e6))
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    device.offer(plans["pi-1"])
    first = device.hears(m.Want)
    device.say(m.Hello("0.1.0", None, device.version))
    again = device.hears(m.Want)
    assert (again.sha256, again.indices[0]) == (first.sha256, first.indices[0])
    device._serve(again)
    device.hears(m.Acknowledged)


def test_a_device_that_is_offline_is_asked_for_nothing_until_it_is_back(
    start: Start, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.intake.Puller", functools.partial(Puller, timeout_s=0.1))
    _, plans = an_open_round(start, devices)
    device = devices["pi-1"]
    device.offer(plans["pi-1"])
    device.hears(m.Want)
    device.hears(m.Want)
    device.say(m.Offline("the connection was lost"))
    for _ in range(20):
        if device.link.receive(0.5) is None:
            break
    else:
        pytest.fail("it is asked again and again")
    device.say(m.Hello("0.1.0", None, device.version))
    device.hears(m.Acknowledged)


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
    assert "no place for it" in refused.reason


def loud(device: Device, plan: m.Plan) -> bytes:
    """An update whose numbers are far too large to be a round's training."""
    update = device.trained(plan)
    factor = np.float32(2.5 / root_mean_square(update))
    for table in update.changes.tables.values():
        table.scales[:] *= factor
    return codec.encode_update(update, device.layout)


def test_an_update_of_absurd_size_is_refused(start: Start, devices: Devices) -> None:
    gateway, plans = an_open_round(start, devices)
    bad = devices.pop("pi-2")
    bad.offer_bytes(plans["pi-2"], loud(bad, plans["pi-2"]))
    assert "guard.rms_limit is 2" in bad.hears(m.Rejected).reason
    for name, device in devices.items():
        device.offer(plans[name])
        device.hears(m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-3")


def test_an_update_of_absurd_size_is_scaled_down_where_that_is_asked_for(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    changed = msgspec.structs.replace(config, guard=GuardSettings(rms_limit=0.001, beyond="clip"))
    gateway, plans = an_open_round(start, devices, changed=changed)
    for name, device in devices.items():
        device.offer_bytes(plans[name], loud(device, plans[name]))
        device.hears(m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-2", "pi-3")
    plan = devices["pi-1"].hears(m.Plan)
    (ref,) = plan.deltas
    delta = codec.decode_delta(devices["pi-1"].pull(ref), devices["pi-1"].layout)
    largest = max(np.abs(table).max(initial=0) for table in delta.changes.rows().values())
    assert 0 < largest < 0.05, "of numbers around 2.5"
