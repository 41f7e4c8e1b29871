"""The registry of devices."""

from __future__ import annotations

from coordinator.roster import Device, Roster
from edge_agent.wire import messages as m
from edge_agent.wire import replay
from tests.runs import CAPABILITY

READY = m.Ready(bytes(32), 20, 5, 12, 3, CAPABILITY)


def test_an_unknown_device_is_offline_and_holds_the_seed_state() -> None:
    roster = Roster([])
    assert roster["pi-1"] == Device("pi-1")
    assert roster["pi-1"].version == 0
    assert list(roster) == [], "asking for a device does not register it"


def test_devices_come_by_name() -> None:
    roster = Roster([Device("pi-2"), Device("pi-1")])
    roster.change("pi-3", online=True)
    assert [device.name for device in roster] == ["pi-1", "pi-2", "pi-3"]


def test_a_change_keeps_the_rest() -> None:
    roster = Roster([Device("pi-1", note="was here")])
    assert roster.change("pi-1", ready=READY) == Device("pi-1", ready=READY, note="was here")
    assert roster["pi-1"].version == 3


def test_each_message_is_new_once() -> None:
    roster = Roster([Device("pi-1", replay.everything_up_to(2, 5))])
    assert [roster.admit("pi-1", 2, sequence) for sequence in (5, 6, 6, 8, 7)] == [False, True, False, True, True]
    assert roster.admit("pi-1", 3, 1)
    assert not roster.admit("pi-1", 2, 9)
    assert roster.admit("pi-2", 1, 1), "numbers are each device's own"
