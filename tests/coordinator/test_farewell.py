"""The end of a run: everyone holds the final model, is dismissed, and nobody is waited for without end."""

from __future__ import annotations

from pathlib import Path

from coordinator import events
from edge_agent.wire import messages as m
from tests.coordinator.devices import Devices, Start, last_rounds
from tests.scripted import (
    Device,
    all_of,
    make_config,
)


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
