"""A coordinator that has service levels to keep."""

from __future__ import annotations

import msgspec

from coordinator import events
from coordinator.config import CoordinatorConfig, ObjectiveSettings
from edge_agent.wire import link, topics
from edge_agent.wire.memory_link import MemoryBroker
from tests.coordinator.devices import Devices, Start
from tests.runs import FLEET
from tests.scripted import Device, all_of


def test_devices_that_go_and_come_are_a_breach_and_its_end(
    start: Start, devices: Devices, broker: MemoryBroker, config: CoordinatorConfig
) -> None:
    listener = broker.link("listener", (topics.events(FLEET),))
    gateway = start(msgspec.structs.replace(config, objectives=ObjectiveSettings(devices=3, topic=True)))
    (missed,) = gateway.tells(events.Objective)
    assert (missed.name, missed.met, missed.value) == ("devices", False, 0.0)
    all_of(devices, Device.join)
    again = gateway.tells(events.Objective, 2)[1]
    assert (again.met, again.value) == (True, 3.0)
    devices["pi-2"].vanish()
    assert gateway.tells(events.Objective, 3)[2].value == 2.0
    heard = [event for event in iter(lambda: listener.receive(0.0), None) if isinstance(event, link.Received)]
    assert [msgspec.json.decode(event.payload)["met"] for event in heard] == [False, True, False]


def test_a_round_that_stays_open_too_long_is_a_breach(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    gateway = start(msgspec.structs.replace(config, objectives=ObjectiveSettings(round_s=0.1)))
    all_of(devices, Device.join)
    (late,) = gateway.tells(events.Objective)
    assert (late.name, late.met) == ("round_s", False)


def test_a_model_that_is_not_good_enough_is_a_breach(start: Start, devices: Devices, config: CoordinatorConfig) -> None:
    gateway = start(msgspec.structs.replace(config, objectives=ObjectiveSettings(accuracy=0.99)))
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    (poor,) = gateway.tells(events.Objective)
    assert (poor.name, poor.met, poor.value) == ("accuracy", False, 0.6)


def test_what_was_measured_last_is_known_after_a_restart_in_an_open_round(
    start: Start, devices: Devices, config: CoordinatorConfig
) -> None:
    gateway = start(config)
    all_of(devices, Device.join)
    all_of(devices, Device.takes_part)
    gateway.tells(events.Opened, 2)
    gateway.crash()
    again = start(msgspec.structs.replace(config, objectives=ObjectiveSettings(accuracy=0.99)))
    (poor,) = again.tells(events.Objective)
    assert (poor.name, poor.value) == ("accuracy", 0.6)
