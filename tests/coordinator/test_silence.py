"""Who is silent, and when silence says nothing."""

from __future__ import annotations

from pathlib import Path

from coordinator import events
from coordinator.silence import Silence
from edge_agent.wire import messages as m
from tests.coordinator.devices import Devices, Start
from tests.scripted import Device, all_of, make_config

LIMIT_S = 100.0


def listening() -> Silence:
    silence = Silence(LIMIT_S)
    silence.listening(0.0)
    return silence


def test_a_device_is_silent_when_nothing_came_for_as_long_as_the_limit() -> None:
    silence = listening()
    silence.heard("b", 10.0)
    silence.heard("a", 10.0)
    assert silence.silent(("a", "b"), 10.0 + LIMIT_S - 1) == ()
    silence.heard("b", 50.0)
    assert silence.silent(("a", "b"), 10.0 + LIMIT_S) == ("a",)
    assert silence.silent(("b", "a"), 50.0 + LIMIT_S) == ("a", "b")


def test_a_device_that_was_never_heard_is_not_silent() -> None:
    assert listening().silent(("a",), 1e9) == ()


def test_while_nothing_can_be_heard_nobody_is_silent_and_afterwards_all_have_the_whole_time() -> None:
    silence = listening()
    silence.heard("a", 10.0)
    silence.deaf()
    assert silence.silent(("a",), 1e6) == ()
    silence.listening(1e6)
    assert silence.silent(("a",), 1e6 + LIMIT_S - 1) == ()
    assert silence.silent(("a",), 1e6 + LIMIT_S) == ("a",)


def test_a_coordinator_that_was_never_connected_hears_nobody() -> None:
    silence = Silence(LIMIT_S)
    silence.heard("a", 0.0)
    assert silence.silent(("a",), 1e6) == ()


def test_a_device_that_falls_silent_is_lost_and_the_round_goes_on_without_it(
    start: Start, devices: Devices, tmp_path: Path, quick: None
) -> None:
    """Its last will was lost. Once it speaks again it takes part again."""
    gateway = start(make_config(tmp_path, silence_s=1.0, grace_s=0.2, rounds=3))
    all_of(devices, Device.join)
    silent = devices.pop("pi-2")
    plan = silent.hears(m.Plan)
    for device in devices.values():
        device.offer(device.hears(m.Plan))
        device.hears(m.Acknowledged)
    assert gateway.tells(events.Closed)[0].record.contributors == ("pi-1", "pi-3")
    left = {event.device: event.reason for event in gateway.told(events.Left)}
    assert "nothing was heard" in left["pi-2"]
    for device in (silent, *devices.values()):
        device.say(device.ready())
    while (heard := silent.hears(m.Plan)).round == plan.round:
        pass
    assert heard.round == 2
