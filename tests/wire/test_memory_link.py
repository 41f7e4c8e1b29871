from __future__ import annotations

import pytest

from edge_agent.wire.errors import LinkError
from edge_agent.wire.link import Connected, Disconnected, Event, Link, Received, Traffic, Will
from edge_agent.wire.memory_link import MemoryBroker

UP, DOWN, OTHER = "rankfleet/f/pi-1/up", "rankfleet/f/pi-1/down", "rankfleet/f/pi-2/up"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


def events(link: Link) -> list[Event]:
    found = []
    while (event := link.receive(0)) is not None:
        found.append(event)
    return found


def test_messages_go_to_those_who_subscribed(broker: MemoryBroker) -> None:
    coordinator = broker.link("coordinator", ["rankfleet/f/+/up"])
    device = broker.link("pi-1", [DOWN])
    assert device.publish(UP, b"a") and device.publish(OTHER, b"b") and coordinator.publish(DOWN, b"c")
    assert events(coordinator) == [Connected(False), Received(UP, b"a"), Received(OTHER, b"b")]
    assert events(device) == [Connected(False), Received(DOWN, b"c")]


def test_one_message_arrives_once_whatever_overlaps(broker: MemoryBroker) -> None:
    link = broker.link("x", ["rankfleet/#", "rankfleet/+/+/up"])
    broker.link("y", []).publish(UP, b"a")
    assert events(link) == [Connected(False), Received(UP, b"a")]


def test_a_new_link_of_a_client_hears_its_own_topics_and_no_longer_the_former_ones(broker: MemoryBroker) -> None:
    broker.link("x", [DOWN, "rankfleet/f/+/up"])
    link = broker.link("x", [OTHER])
    speaker = broker.link("y", [])
    assert all(speaker.publish(topic, b"a") for topic in (UP, DOWN, OTHER))
    assert events(link) == [Connected(False), Received(OTHER, b"a")]


def test_a_cut_sends_the_will_once_and_nothing_goes_until_restored(broker: MemoryBroker) -> None:
    coordinator = broker.link("coordinator", ["rankfleet/f/+/up"])
    device = broker.link("pi-1", [DOWN], Will(UP, b"gone"))
    broker.cut("pi-1")
    broker.cut("pi-1")
    assert not device.publish(UP, b"a")
    assert coordinator.publish(DOWN, b"lost")
    assert events(coordinator) == [Connected(False), Received(UP, b"gone")]
    broker.restore("pi-1")
    assert device.publish(UP, b"b")
    assert events(device) == [
        Connected(False),
        Disconnected("the connection was cut", fatal=False),
        Connected(False),
    ]


def test_a_farewell_sends_no_will(broker: MemoryBroker) -> None:
    coordinator = broker.link("coordinator", ["rankfleet/f/+/up"])
    device = broker.link("pi-1", [DOWN], Will(UP, b"gone"))
    device.close()
    device.close()
    assert not device.publish(UP, b"a")
    assert events(coordinator) == [Connected(False)]


def test_a_second_link_of_a_client_takes_over(broker: MemoryBroker) -> None:
    first = broker.link("pi-1", [DOWN])
    second = broker.link("pi-1", [DOWN])
    first.close()
    assert not first.publish(UP, b"a")
    assert second.publish(DOWN, b"b")
    assert events(second) == [Connected(False), Received(DOWN, b"b")]


def test_payloads_over_the_limit_are_refused() -> None:
    link = MemoryBroker(max_payload_bytes=10).link("x", [])
    assert link.publish("t", bytes(link.max_payload_bytes))
    with pytest.raises(LinkError, match="11 bytes"):
        link.publish("t", bytes(11))


def test_traffic_counts_topics_and_payloads(broker: MemoryBroker) -> None:
    link = broker.link("x", ["ab"])
    link.publish("ab", b"123")
    link.publish("cd", b"4")
    assert link.traffic() == Traffic(bytes_up=8, bytes_down=5)
