"""Rounds that close before a real coordinator: what the devices' hold-outs say of the model decides what comes next."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from coordinator import events
from coordinator.config import CoordinatorConfig, FallbackSettings
from coordinator.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.state import ModelState, seed_state
from tests.coordinator.devices import Devices, Start
from tests.scripted import Device, Gateway, all_of, catch_up, make_config, tiny_layout


def a_round(devices: Devices, right: int) -> m.Plan:
    """One round in which every device gets `right` of five hold-out rows right; the plan of the first."""
    plans = []
    for device in devices.values():
        plan = device.hears(m.Plan)
        offer = device.offer(plan, holdout_correct=right)
        assert device.hears(m.Acknowledged) == m.Acknowledged(plan.round, offer.update.sha256)
        device.version = plan.version
        plans.append(plan)
    return plans[0]


def start_of(start: Start, devices: Devices, config: CoordinatorConfig) -> Gateway:
    gateway = start(config)
    all_of(devices, Device.join)
    return gateway


def test_a_model_that_got_worse_is_left_for_the_last_good_one_and_devices_follow(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    config = make_config(tmp_path, rounds=5)
    gateway = start_of(start, devices, config)
    held: list[ModelState] = [seed_state(tiny_layout(), config.seed)]
    for right in (3, 4, 4):
        plan = a_round(devices, right)
        held.append(catch_up(devices["pi-1"], held[-1], plan.deltas))
        assert states.digest(held[-1]) == plan.state_sha256
    plan = a_round(devices, 1)
    assert gateway.tells(events.Closed, 4)[3].record.returned_to == 2
    bad = catch_up(devices["pi-1"], held[-1], plan.deltas)
    after = devices["pi-1"].hears(m.Plan)
    assert [ref.kind for ref in after.deltas] == ["snapshot"]
    good = catch_up(devices["pi-1"], bad, after.deltas)
    assert states.digest(good) == after.state_sha256
    assert (good.version, bad.version) == (4, 3)
    assert (good.mask == held[3].mask).all() and held[3].version == 2
    assert all(np.array_equal(good.rows[name], held[3].rows[name]) for name in good.rows)


def test_what_was_returned_to_survives_a_restart(start: Start, devices: Devices, tmp_path: Path) -> None:
    config = make_config(tmp_path, rounds=5)
    gateway = start_of(start, devices, config)
    for right in (3, 4, 4, 1):
        a_round(devices, right)
    gateway.tells(events.Closed, 4)
    wanted = devices["pi-1"].hears(m.Plan).state_sha256
    gateway.crash()
    start(config)
    device = devices["pi-1"]
    device.hears(m.Welcome)
    device.say(device.ready())
    assert device.hears(m.Plan).state_sha256 == wanted


class CountingStore(Store):
    """Counts how often the records of all rounds are read."""

    records = 0

    def rounds(self, after: int = 0) -> list[tuple[int, bytes]]:
        CountingStore.records += not after
        return super().rounds(after)


def test_what_a_round_reads_does_not_grow_with_the_rounds_before_it(
    start: Start, devices: Devices, tmp_path: Path
) -> None:
    gateway = start(make_config(tmp_path, rounds=5), store=CountingStore)
    all_of(devices, Device.join)
    gateway.tells(events.Opened)
    read = CountingStore.records
    for right in (3, 4, 4, 3):
        a_round(devices, right)
    gateway.tells(events.Closed, 4)
    assert CountingStore.records == read > 0


def test_without_a_margin_the_fleet_goes_on_from_a_worse_model(start: Start, devices: Devices, tmp_path: Path) -> None:
    config = msgspec.structs.replace(make_config(tmp_path, rounds=5), fallback=FallbackSettings(0.0))
    gateway = start_of(start, devices, config)
    for right in (3, 4, 4, 0):
        a_round(devices, right)
    assert [event.record.returned_to for event in gateway.tells(events.Closed, 4)] == [None] * 4
