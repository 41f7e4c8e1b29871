"""Scripted devices before a real coordinator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.wire import messages as m
from tests.scripted import (
    Device,
    Gateway,
    all_of,
)

NAMES = ("pi-1", "pi-2", "pi-3")

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


def an_open_round(start: Start, devices: Devices, **options: Any) -> tuple[Gateway, dict[str, m.Plan]]:
    gateway = start(**options)
    all_of(devices, Device.join)
    return gateway, {name: device.hears(m.Plan) for name, device in devices.items()}
