from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coordinator.broker import EmbeddedBroker, _may_use
from edge_agent.wire.errors import ConfigError, LinkError
from edge_agent.wire.link import Connected, Disconnected, Received, Will
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.topics import down, every_up, up
from tests.brokers import PASSWORD, USERS, wait_for

UP, DOWN = up("f", "pi-1"), down("f", "pi-1")
MANY = {f"pi-{number}": PASSWORD for number in range(3, 15)}


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(USERS | MANY) as running:
        yield running


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as closing:
        yield closing


def link_to(
    broker: EmbeddedBroker, stack: ExitStack, user: str, *topics: str, will: Will | None = None, **changes: object
) -> MqttLink:
    values: dict[str, object] = {"password": PASSWORD, "first_retry_s": 0.02} | changes
    link = MqttLink(MqttSettings(broker.host, broker.port, user, user, **values), topics, will)  # type: ignore[arg-type]
    stack.callback(link.close)
    return link


def answer(broker: EmbeddedBroker, data: bytes) -> bytes:
    """What the broker says to raw bytes, until it closes."""
    with socket.create_connection((broker.host, broker.port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(100), b""))


def connect_packet(version: int, flags: int = 0x02, tail: bytes = b"\x00\x01a") -> bytes:
    body = b"\x00\x04MQTT" + bytes([version, flags]) + b"\x00\x3c" + tail
    return bytes([0x10, len(body)]) + body


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.local", ""])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ConfigError, match="Mosquitto"):
        EmbeddedBroker(USERS, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_loopback_has_several_names(host: str) -> None:
    assert EmbeddedBroker(USERS, host=host).host == host


def test_the_system_chooses_the_port_and_another_broker_cannot_have_it(broker: EmbeddedBroker) -> None:
    assert broker.port > 0
    with pytest.raises(LinkError, match=f"cannot listen on 127.0.0.1:{broker.port}"):
        EmbeddedBroker(USERS, port=broker.port).start()


def test_it_stops_whether_started_or_not() -> None:
    EmbeddedBroker(USERS).stop()
    broker = EmbeddedBroker(USERS)
    port = broker.start()
    broker.stop()
    broker.stop()
    with EmbeddedBroker(USERS, port=port) as again:
        assert again.port == port


def test_mqtt_5_is_refused_in_its_own_words(broker: EmbeddedBroker) -> None:
    properties = b"\x05\x11\x00\x00\x00\x3c"
    assert answer(broker, connect_packet(5, tail=properties + b"\x00\x01a")) == b"\x20\x03\x00\x84\x00"


@pytest.mark.parametrize("version", [0, 3, 6])
def test_other_versions_are_refused(broker: EmbeddedBroker, version: int) -> None:
    assert answer(broker, connect_packet(version)) == b"\x20\x02\x00\x01"


@pytest.mark.parametrize(
    "packet",
    [
        connect_packet(4),
        connect_packet(4, 0x82, b"\x00\x01a\x00\x04pi-1"),
        connect_packet(4, 0xC2, b"\x00\x01a\x00\x04pi-1\x00\x01x"),
        connect_packet(4, 0xC2, b"\x00\x01a\x00\x04none\x00\x01x"),
        connect_packet(4, 0xC2, b"\x00\x01a\x00\x00\x00\x00"),
    ],
    ids=["anonymous", "no password", "wrong password", "unknown user", "empty user"],
)
def test_only_known_users_with_their_password_come_in(broker: EmbeddedBroker, packet: bytes) -> None:
    assert answer(broker, packet) == b"\x20\x02\x00\x05"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x10",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x10\xff\xff\xff\xff\xff",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x00",
        b"\x10\x04\x00\x04MQ",
        b"\x10\x02\xff\xff",
        b"\x30\x02\x00\x00",
        connect_packet(4, 0xC2, b"\xff\xff"),
    ],
)
def test_whatever_else_comes_is_closed_and_harms_nobody(broker: EmbeddedBroker, stack: ExitStack, data: bytes) -> None:
    assert answer(broker, data) in (b"", b"\x20\x02\x00\x01", b"\x20\x02\x00\x05")
    wait_for(link_to(broker, stack, "pi-1", DOWN), Connected)


def test_a_wrong_password_does_not_disturb_the_device_of_that_name(broker: EmbeddedBroker, stack: ExitStack) -> None:
    coordinator, device = link_to(broker, stack, "coordinator", every_up("f")), link_to(broker, stack, "pi-1", DOWN)
    for link in (coordinator, device):
        wait_for(link, Connected)
    assert wait_for(link_to(broker, stack, "pi-1", DOWN, password="wrong"), Disconnected).fatal
    coordinator.publish(DOWN, b"a")
    assert wait_for(device, Received) == Received(DOWN, b"a")


def test_a_will_in_the_name_of_another_is_refused(broker: EmbeddedBroker, stack: ExitStack) -> None:
    link = link_to(broker, stack, "pi-1", DOWN, will=Will(up("f", "pi-2"), b"gone"))
    assert wait_for(link, Disconnected).fatal


def test_a_subscription_to_the_topics_of_others_is_refused(broker: EmbeddedBroker, stack: ExitStack) -> None:
    gone = wait_for(link_to(broker, stack, "pi-1", DOWN, every_up("f")), Disconnected)
    assert gone.fatal
    assert f"refuses a subscription to {every_up('f')}:" in gone.reason


@pytest.mark.parametrize(
    ("user", "topic", "allowed"),
    [
        ("coordinator", "rankfleet/f/pi-1/up", True),
        ("coordinator", "rankfleet/#", True),
        ("pi-1", "rankfleet/f/pi-1/up", True),
        ("pi-1", "rankfleet/+/pi-1/#", True),
        ("pi-1", "rankfleet/f/pi-10/up", False),
        ("pi-1", "rankfleet/f/+/up", False),
        ("pi-1", "rankfleet/f/#", False),
        ("pi-1", "rankfleet/#", False),
        ("pi-1", "#", False),
        ("pi-1", "other/f/pi-1/up", False),
        ("pi-1", "$SYS/f/pi-1/up", False),
        ("pi-1", "", False),
        (None, "rankfleet/f/pi-1/up", False),
    ],
)
def test_the_access_list(user: str | None, topic: str, allowed: bool) -> None:
    assert _may_use(user, topic) is allowed


def test_a_packet_over_the_limit_ends_its_senders_connection(stack: ExitStack) -> None:
    broker = stack.enter_context(EmbeddedBroker(USERS, max_packet_bytes=10_000))
    coordinator = link_to(broker, stack, "coordinator", every_up("f"))
    device = link_to(broker, stack, "pi-1", DOWN, will=Will(UP, b"gone"))
    for link in (coordinator, device):
        wait_for(link, Connected)
    device.publish(UP, bytes(20_000))
    assert not wait_for(device, Disconnected).fatal
    assert wait_for(coordinator, Received) == Received(UP, b"gone")
    wait_for(device, Connected)


def test_nothing_is_lost_to_one_device_while_others_come_and_go(broker: EmbeddedBroker, stack: ExitStack) -> None:
    coordinator, device = link_to(broker, stack, "coordinator", every_up("f")), link_to(broker, stack, "pi-1", DOWN)
    for link in (coordinator, device):
        wait_for(link, Connected)

    def come_and_go() -> None:
        for user in MANY:
            link = link_to(broker, stack, user, down("f", user))
            wait_for(link, Connected)
            link.close()

    crowd = threading.Thread(target=come_and_go)
    crowd.start()
    sent = 0
    while crowd.is_alive() or sent < 50:
        assert coordinator.publish(DOWN, sent.to_bytes(4, "big"))
        assert wait_for(device, Received).payload == sent.to_bytes(4, "big")
        sent += 1
    crowd.join()


def test_amqtt_keeps_quiet(broker: EmbeddedBroker) -> None:
    assert not logging.getLogger("amqtt.broker").isEnabledFor(logging.ERROR)
