from __future__ import annotations

import dataclasses
import hashlib
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from edge_agent.wire import frame
from edge_agent.wire.errors import ConfigError, LinkError
from edge_agent.wire.link import Connected, Disconnected, Received, Will
from edge_agent.wire.messages import Chunk, FromAgent, ObjectRef
from edge_agent.wire.mqtt import (
    DEFAULT_PACKET_BYTES,
    LEAST_PACKET_BYTES,
    STABLE_S,
    MqttLink,
    MqttSettings,
    _Dialler,
    payload_room_bytes,
)
from edge_agent.wire.mqtt_connection import Ending
from edge_agent.wire.tls import TlsSettings
from edge_agent.wire.topics import down, every_up, up
from edge_agent.wire.transfer import BytesSource, MemorySink, Receiver, chunk_bytes_for, serve
from tests.brokers import PASSWORD, Server, embedded, mosquitto, wait_for

UP, DOWN = up("f", "pi-1"), down("f", "pi-1")
ALL_BYTES = bytes(range(256)) * 8
Version = Literal["auto", "3.1.1", "5"]


@dataclass
class Place:
    """A broker, one protocol, and links that are closed at the end."""

    broker: Server
    protocol: Version
    links: list[MqttLink] = field(default_factory=list)

    def close(self) -> None:
        for link in self.links:
            link.close()

    def settings(self, user: str, **changes: Any) -> MqttSettings:
        settings = MqttSettings(
            self.broker.host, self.broker.port, user, user, PASSWORD, self.protocol, first_retry_s=0.02
        )
        return dataclasses.replace(settings, **changes)

    def link(self, user: str, *topics: str, will: Will | None = None, **changes: Any) -> MqttLink:
        self.links.append(MqttLink(self.settings(user, **changes), topics, will))
        return self.links[-1]

    def connected(self, user: str, *topics: str, will: Will | None = None, **changes: Any) -> MqttLink:
        link = self.link(user, *topics, will=will, **changes)
        wait_for(link, Connected)
        return link


CASES = ["mosquitto 3.1.1", "mosquitto 5", "mosquitto auto", "embedded auto", "embedded 3.1.1"]


def place_of(case: str, folder: Path, stack: ExitStack, *, started: bool = True) -> Place:
    kind, protocol = case.split()
    if kind == "embedded":
        broker: Server = stack.enter_context(embedded(started=started))
    else:
        broker = stack.enter_context(mosquitto(folder, max_packet_bytes=DEFAULT_PACKET_BYTES, started=started))
    place = Place(broker, protocol)  # type: ignore[arg-type]
    stack.callback(place.close)
    return place


@pytest.fixture(params=CASES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield place_of(request.param, tmp_path, stack)


@pytest.fixture(params=["mosquitto auto", "embedded auto"])
def absent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield place_of(request.param, tmp_path, stack, started=False)


@pytest.fixture
def mosquitto_5(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield place_of("mosquitto 5", tmp_path, stack)


def test_bytes_go_round_unchanged(place: Place) -> None:
    coordinator, device = place.connected("coordinator", every_up("f")), place.connected("pi-1", DOWN)
    assert device.publish(UP, ALL_BYTES)
    assert wait_for(coordinator, Received) == Received(UP, ALL_BYTES)
    assert coordinator.publish(DOWN, b"", qos=0)
    assert wait_for(device, Received) == Received(DOWN, b"")


def test_a_wrong_password_is_told_from_everything_else_and_ends_the_link(place: Place) -> None:
    link = place.link("pi-1", DOWN, password="wrong")
    gone = wait_for(link, Disconnected)
    assert gone.fatal
    assert "check user name and password" in gone.reason
    assert not link.publish(UP, b"a")
    assert link.receive(0.2) is None


def test_a_broker_that_is_not_there_is_named_and_awaited(absent: Place) -> None:
    link = absent.link("pi-1", DOWN)
    gone = wait_for(link, Disconnected)
    assert not gone.fatal
    assert gone.reason == f"no broker at 127.0.0.1:{absent.broker.port}: Connection refused"
    assert not link.publish(UP, b"a")
    absent.broker.start()
    wait_for(link, Connected)
    assert link.publish(UP, b"a")


def test_a_host_that_cannot_be_found_is_named() -> None:
    link = MqttLink(MqttSettings("no-such-host.invalid", 1883, "a", "a", "b"), [])
    assert "no broker at no-such-host.invalid:1883" in wait_for(link, Disconnected).reason
    link.close()


def test_a_broker_that_restarts_gets_its_clients_back(place: Place) -> None:
    coordinator, device = place.connected("coordinator", every_up("f")), place.connected("pi-1", DOWN)
    device.publish(UP, ALL_BYTES)
    wait_for(coordinator, Received)
    before = device.traffic()
    place.broker.kill()
    for link in (coordinator, device):
        assert not wait_for(link, Disconnected).fatal
        assert not link.publish(UP, b"lost")
    place.broker.start()
    for link in (coordinator, device):
        wait_for(link, Connected)
    assert device.publish(UP, b"again")
    assert wait_for(coordinator, Received) == Received(UP, b"again")
    after = device.traffic()
    assert before is not None and after is not None
    assert after.bytes_up > before.bytes_up > len(ALL_BYTES)


VICTIM = """
import sys, time
from edge_agent.wire.link import Connected, Will
from edge_agent.wire.mqtt import MqttLink, MqttSettings
port, protocol, password, topic = sys.argv[1:]
link = MqttLink(MqttSettings("127.0.0.1", int(port), "pi-1", "pi-1", password, protocol), [], Will(topic, b"gone"))
while not isinstance(link.receive(20), Connected):
    pass
print("connected", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_its_will(place: Place) -> None:
    coordinator = place.connected("coordinator", every_up("f"))
    arguments = [str(place.broker.port), place.protocol, PASSWORD, UP]
    with subprocess.Popen([sys.executable, "-c", VICTIM, *arguments], stdout=subprocess.PIPE) as victim:
        assert victim.stdout is not None and victim.stdout.readline() == b"connected\n"
        victim.kill()
    assert wait_for(coordinator, Received) == Received(UP, b"gone")


def test_an_orderly_close_sends_everything_and_no_will(place: Place) -> None:
    coordinator = place.connected("coordinator", every_up("f"))
    for attempt in range(5):
        device = place.connected("pi-1", DOWN, will=Will(UP, b"gone"))
        sent = [bytes([attempt, number]) * 25_000 for number in range(40)]
        assert all(device.publish(UP, payload) for payload in sent)
        device.close()
        device.close()
        if place.broker.ejected() == attempt:  # else it was not our close that ended the connection
            break
    while (first := wait_for(coordinator, Received).payload) != sent[0]:
        pass
    assert [first, *(wait_for(coordinator, Received).payload for _ in sent[1:])] == sent
    assert coordinator.receive(0.3) is None
    assert not device.publish(UP, b"late")


def test_another_devices_topics_are_refused(place: Place) -> None:
    coordinator = place.connected("coordinator", every_up("f"))
    spy = place.link("pi-2", DOWN)
    device = place.connected("pi-1", DOWN)
    device.publish(up("f", "pi-2"), b"forged")
    device.publish(UP, b"own")
    assert wait_for(coordinator, Received) == Received(UP, b"own")
    coordinator.publish(DOWN, b"secret")
    assert wait_for(device, Received) == Received(DOWN, b"secret")
    while (event := spy.receive(0.2)) is not None:
        assert not isinstance(event, Received)


def test_traffic_is_what_was_sent_and_a_little_more(place: Place) -> None:
    coordinator, device = place.connected("coordinator", every_up("f")), place.connected("pi-1", DOWN)
    for _ in range(10):
        device.publish(UP, bytes(100_000))
        coordinator.publish(DOWN, bytes(50_000))
    for link in (coordinator, device):
        for _ in range(10):
            wait_for(link, Received)
    device.close()
    traffic = device.traffic()
    assert traffic is not None
    assert 1_000_000 < traffic.bytes_up < 1_002_000
    assert 500_000 < traffic.bytes_down < 502_000


def test_an_object_arrives_in_chunks_that_fit_the_packet_limit(place: Place) -> None:
    coordinator, device = place.connected("coordinator", every_up("f")), place.connected("pi-1", DOWN)
    data = random.Random(0).randbytes(5 * DEFAULT_PACKET_BYTES + 11)
    ref = ObjectRef("update", hashlib.sha256(data).digest(), len(data))
    sink = MemorySink()
    receiver = Receiver(ref, sink, chunk_bytes_for(coordinator.max_payload_bytes), window=16)
    want = receiver.want()
    assert want is not None and len(want.indices) == 11
    for number, chunk in enumerate(serve(want, BytesSource(data))):
        assert device.publish(UP, frame.encode(chunk, 1, number + 1))
    decoder = frame.Decoder(FromAgent)
    while not receiver.done:
        message = decoder.decode(wait_for(coordinator, Received).payload).message
        assert isinstance(message, Chunk)
        receiver.take(message)
    receiver.finish()
    assert sink.data == data


def test_the_largest_payload_on_the_longest_topic_passes_the_brokers_limit(place: Place) -> None:
    fleet = "f" * 64
    coordinator = place.connected("coordinator", every_up(fleet))
    topic = up(fleet, "d" * 64)
    largest = bytes(coordinator.max_payload_bytes)
    assert len(largest) == payload_room_bytes(DEFAULT_PACKET_BYTES)
    assert coordinator.publish(topic, largest)
    assert wait_for(coordinator, Received).payload == largest
    with pytest.raises(LinkError, match="smaller chunks"):
        coordinator.publish(topic, largest + b"x")


def test_messages_from_many_threads_all_arrive(place: Place) -> None:
    coordinator, device = place.connected("coordinator", every_up("f")), place.connected("pi-1", DOWN)

    def send(thread: int) -> None:
        for number in range(20):
            assert device.publish(UP, bytes([thread, number]))

    threads = [threading.Thread(target=send, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    received = {wait_for(coordinator, Received).payload for _ in range(80)}
    assert received == {bytes([thread, number]) for thread in range(4) for number in range(20)}


def test_a_smaller_limit_that_the_broker_announces_holds(tmp_path: Path) -> None:
    with mosquitto(tmp_path, max_packet_bytes=20_000) as broker, ExitStack() as stack:
        link = Place(broker, "5").connected("coordinator", every_up("f"))
        stack.callback(link.close)
        assert link.max_payload_bytes == payload_room_bytes(20_000)
        assert link.publish(UP, bytes(link.max_payload_bytes))
        assert len(wait_for(link, Received).payload) == link.max_payload_bytes


def test_what_was_sent_during_a_short_cut_still_arrives_with_mqtt_5(mosquitto_5: Place) -> None:
    coordinator = mosquitto_5.connected("coordinator", every_up("f"))
    device = mosquitto_5.connected("pi-1", DOWN, first_retry_s=1.0)
    assert device._connection is not None
    device._connection._cut()
    wait_for(device, Disconnected)
    coordinator.publish(DOWN, b"meanwhile")
    assert wait_for(device, Connected) == Connected(session_present=True)
    assert wait_for(device, Received) == Received(DOWN, b"meanwhile")


def test_a_new_link_starts_clean(mosquitto_5: Place) -> None:
    coordinator = mosquitto_5.connected("coordinator", every_up("f"))
    mosquitto_5.connected("pi-1", DOWN).close()
    coordinator.publish(DOWN, b"to nobody")
    coordinator.publish(UP, b"behind it")
    wait_for(coordinator, Received)  # so the broker is done with the one before
    device = mosquitto_5.link("pi-1", DOWN)
    assert wait_for(device, Connected) == Connected(session_present=False)
    assert device.receive(0.2) is None


def test_congestion_is_answered_with_false(mosquitto_5: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.wire.mqtt_connection.QUEUED_MESSAGES", 2)
    link = mosquitto_5.connected("pi-1", DOWN)
    assert not all(link.publish(UP, bytes(100_000)) for _ in range(50))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["silence", "http"])
def test_a_server_that_is_no_broker_is_told_apart(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_answer, args=(server, answer), daemon=True).start()
        port = server.getsockname()[1]
        link = MqttLink(MqttSettings("127.0.0.1", port, "a", "a", "b", first_retry_s=0.02), [])
        gone = wait_for(link, Disconnected)
        assert gone == Disconnected(f"127.0.0.1:{port} does not answer as an MQTT broker does", fatal=False)
        link.close()


def _answer(server: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(1000)
            connection.sendall(answer)


def test_mqtt_5_alone_says_that_the_broker_lacks_it() -> None:
    with embedded() as broker:
        link = Place(broker, "5").link("pi-1", DOWN)
        gone = wait_for(link, Disconnected)
        assert gone.reason == f"127.0.0.1:{broker.port} does not speak MQTT 5"
        link.close()


def test_the_older_protocol_is_tried_at_once_and_then_in_turn() -> None:
    dialler = _Dialler(MqttSettings("h", 1, "a", "a", "b"), random.Random(0))
    tried = []
    for _ in range(4):
        tried.append((int(dialler.protocol), dialler.falls_back(Ending("", unanswered=True))))
    assert tried == [(5, True), (4, False), (5, True), (4, False)]


def test_the_protocol_that_was_accepted_stays() -> None:
    dialler = _Dialler(MqttSettings("h", 1, "a", "a", "b"), random.Random(0))
    assert not dialler.falls_back(Ending("", accepted=True))
    assert not dialler.falls_back(Ending("", unanswered=True))
    assert dialler.protocol == 5


BACK_OFF = MqttSettings("h", 1, "a", "a", "b", first_retry_s=1.0, longest_retry_s=5.0)
LOST = Ending("", accepted=True)


def drawn(seed: int, limit_s: float) -> tuple[float, ...]:
    """Delays of many clients that meet with the same four failures, one after another."""
    dialler = _Dialler(dataclasses.replace(BACK_OFF, longest_retry_s=limit_s), random.Random(seed))
    return tuple(dialler.delay_s(Ending(""), 0.0) for _ in range(4))


def test_delays_are_drawn_from_all_of_a_limit_that_doubles_up_to_the_longest() -> None:
    clients = [drawn(seed, 5.0) for seed in range(500)]
    for limit_s, delays in zip((2.0, 4.0, 5.0, 5.0), zip(*clients, strict=True), strict=True):
        assert 0 <= min(delays) < 0.02 * limit_s
        assert 0.98 * limit_s < max(delays) <= limit_s
        assert 0.45 * limit_s < sum(delays) / len(delays) < 0.55 * limit_s
    assert drawn(7, 5.0) == drawn(7, 5.0)


def test_a_connection_that_held_starts_the_delays_anew_and_one_that_was_dropped_at_once_does_not() -> None:
    limits_s = []
    for endings in ([(LOST, STABLE_S)], [(LOST, 0.0)] * 2, [(Ending(""), 0.0)] * 2 + [(LOST, STABLE_S)]):
        delays_s = []
        for seed in range(500):
            dialler = _Dialler(BACK_OFF, random.Random(seed))
            delays_s.append([dialler.delay_s(ending, lasted_s) for ending, lasted_s in endings][-1])
        limits_s.append(round(max(delays_s)))
    assert limits_s == [1, 4, 1]


@pytest.mark.parametrize(
    "changes",
    [{"host": ""}, {"port": 0}, {"port": 65_536}, {"protocol": "4"}, {"max_packet_bytes": LEAST_PACKET_BYTES - 1}],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        dataclasses.replace(MqttSettings("h", 1, "a", "a", "b"), **changes)


def test_passwords_are_not_shown() -> None:
    assert "secret" not in repr(MqttSettings("h", 1, "a", "a", "secret"))


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    settings = MqttSettings("h", 1, "a", "a", "b", tls=TlsSettings(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"none\.pem"):
        MqttLink(settings, [])


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], TlsSettings]:
    if shutil.which("openssl") is None:
        pytest.skip("NO OPENSSL, so TLS is NOT tested: sudo apt install openssl")

    def make(name: str) -> TlsSettings:
        """A self-signed certificate of 127.0.0.1, its own authority."""
        key, pem = tmp_path / f"{name}.key", tmp_path / f"{name}.pem"
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        subprocess.run([*command, "-keyout", str(key), "-out", str(pem)], check=True, capture_output=True)
        return TlsSettings(pem, pem, key)

    return make


def test_tls_on_both_sides(tmp_path: Path, certificate: Callable[[str], TlsSettings]) -> None:
    server, stranger = certificate("server"), certificate("stranger")
    lines = (
        f"cafile {server.ca_file}",
        f"certfile {server.certificate_file}",
        f"keyfile {server.key_file}",
        "require_certificate true",
    )
    with mosquitto(tmp_path, lines=lines) as broker, ExitStack() as stack:
        place = Place(broker, "auto")
        stack.callback(place.close)
        link = place.connected("coordinator", every_up("f"), tls=server)
        assert link.publish(UP, ALL_BYTES)
        assert wait_for(link, Received) == Received(UP, ALL_BYTES)
        traffic = link.traffic()
        assert traffic is not None and traffic.bytes_up > len(ALL_BYTES)
        gone = wait_for(place.link("pi-1", DOWN, tls=stranger), Disconnected)
        assert "not signed by the authority in broker.ca_file" in gone.reason
        assert not gone.fatal
