"""Whose messages the coordinator lets in: nothing comes of those that no device can have sent."""

from __future__ import annotations

import pytest

from coordinator import events
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import frame
from edge_agent.wire import messages as m
from edge_agent.wire.memory_link import MemoryBroker
from tests.coordinator.devices import Devices, Start
from tests.runs import FLEET
from tests.scripted import Device, all_of

STRANGERS = ("coordinator", "-a", "a b", "ä", "n" * 65, "a\nb", "x" * 5000)


def test_what_cannot_be_a_device_touches_nothing_and_is_logged_once(
    start: Start, devices: Devices, broker: MemoryBroker, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start()
    stranger = broker.link("stranger", ())
    for _ in range(20):
        for sequence, name in enumerate(STRANGERS, 1):
            stranger.publish(f"rankfleet/{FLEET}/{name}/up", frame.encode(m.Hello("0.1.0", None, 0), 1, sequence))
    all_of(devices, Device.join)
    assert {event.device for event in gateway.tells(events.Joined, 3)} == set(devices)
    gateway.crash()
    store = Store(gateway._config.run_dir / DATABASE)
    assert {row.name for row in store.devices()} == set(devices)
    store.close()
    said = [line for line in caplog.messages if "a device is named by" in line]
    assert len(said) == 1 and len(said[0]) < 400 and "\n" not in said[0]
