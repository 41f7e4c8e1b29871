from __future__ import annotations

import threading

from edge_agent.wire.link import Connected, Disconnected, Event, Inbox, Received


def test_events_come_in_order() -> None:
    inbox = Inbox()
    events: list[Event] = [
        Connected(False),
        Received("t", b"1"),
        Received("t", b"2"),
        Disconnected("gone", fatal=False),
    ]
    assert all(inbox.put(event) for event in events)
    assert [inbox.get(0) for _ in events] == events


def test_an_empty_inbox_gives_nothing() -> None:
    assert Inbox().get(0) is None


def test_whoever_waits_is_woken() -> None:
    inbox = Inbox()
    threading.Timer(0.05, inbox.put, [Connected(True)]).start()
    assert inbox.get(20) == Connected(True)


def test_a_flood_is_dropped_and_counted_and_never_what_the_connection_does() -> None:
    inbox = Inbox(limit_bytes=25)
    assert [inbox.put(Received("t", bytes(9))) for _ in range(4)] == [True, True, False, False]
    assert inbox.dropped == 2
    assert inbox.put(Disconnected("flooded", fatal=False))
    assert isinstance(inbox.get(0), Received)
    assert inbox.put(Received("t", bytes(9)))


def test_empty_messages_take_room_too() -> None:
    inbox = Inbox(limit_bytes=10)
    assert sum(inbox.put(Received("topic", b"")) for _ in range(100)) == 2
