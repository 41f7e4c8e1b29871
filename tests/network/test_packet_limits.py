"""What brokers do with packets over their limit, and that objects get through all the same."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import pytest

from edge_agent.wire import frame, topics
from edge_agent.wire import messages as m
from edge_agent.wire.link import Connected, Received
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.pace import Pace
from edge_agent.wire.pull import Puller
from edge_agent.wire.transfer import BytesSource, MemorySink, chunk_bytes_for, serve
from tests.brokers import PASSWORD, mosquitto, wait_for

PATIENCE_S = 120.0
TIMEOUT_S = 1.0
"""Until a puller asks again, shorter than the product's, so that the tests are short."""
UNHURRIED = 0.02
"""A second is so many for a puller where nothing is lost, so that nothing depends on how busy this machine is."""
KB_128, MB_1, MB_2 = 128 * 2**10, 2**20, 2**21
FLEET, DEVICE = "f", "pi-1"
UP, DOWN = topics.up(FLEET, DEVICE), topics.down(FLEET, DEVICE)
Version = Literal["3.1.1", "5"]


@dataclasses.dataclass
class Wire:
    """The coordinator, which has `data`, and a device, which pulls it; over one broker."""

    coordinator: MqttLink
    device: MqttLink
    data: bytes
    sizes: list[int] = dataclasses.field(default_factory=list)
    """Of every chunk that was asked for."""
    came_bytes: int = 0
    cuts: int = 0
    """How often the coordinator was connected again."""

    def pull(self, pace: Pace, haste: float = 1.0) -> bytes:
        """Until all is here; the puller's clock runs `haste` times as fast as that on the wall."""
        ref = m.ObjectRef("pack-file", hashlib.sha256(self.data).digest(), len(self.data))
        puller, sink = Puller(pace, timeout_s=TIMEOUT_S), MemorySink()
        puller.add(ref, sink)
        deadline_s = time.monotonic() + PATIENCE_S
        sequence = 0
        while puller.busy and time.monotonic() < deadline_s:
            want = puller.poll(chunk_bytes_for(self.device.max_payload_bytes), haste * time.monotonic())
            if want is not None:
                self.sizes.append(want.chunk_bytes)
                sequence += 1
                self.device.publish(UP, frame.encode(want, 1, sequence))
            self._serve()
            self._take(puller, haste)
        return sink.data

    def _serve(self) -> None:
        event = self.coordinator.receive(0.01)
        self.cuts += isinstance(event, Connected)
        if isinstance(event, Received):
            want = frame.Decoder(m.FromAgent).decode(event.payload).message
            limit_bytes = chunk_bytes_for(self.coordinator.max_payload_bytes)
            for number, chunk in enumerate(serve(want, BytesSource(self.data), limit_bytes=limit_bytes)):
                self.coordinator.publish(DOWN, frame.encode(chunk, 1, number))

    def _take(self, puller: Puller, haste: float) -> None:
        while (event := self.device.receive(0.01)) is not None:
            if isinstance(event, Received):
                chunk = frame.Decoder(m.FromCoordinator).decode(event.payload).message
                self.came_bytes += len(chunk.data)
                puller.take(chunk, haste * time.monotonic())


@contextmanager
def wire(
    folder: Path,
    protocol: Version,
    configured_bytes: int,
    *,
    packet_bytes: int | None = None,
    payload_bytes: int | None = None,
    size_bytes: int = 3_000_003,
) -> Iterator[Wire]:
    """A Mosquitto with these limits of packet and payload, and links configured for packets of `configured_bytes`."""
    lines = () if payload_bytes is None else (f"message_size_limit {payload_bytes}",)
    with mosquitto(folder, max_packet_bytes=packet_bytes, lines=lines) as broker, ExitStack() as stack:
        links = []
        for user, topic in (("coordinator", topics.every_up(FLEET)), (DEVICE, DOWN)):
            settings = MqttSettings(
                broker.host, broker.port, user, user, PASSWORD, protocol,
                max_packet_bytes=configured_bytes, first_retry_s=0.02,
            )  # fmt: skip
            link = MqttLink(settings, [topic])
            stack.callback(link.close)
            wait_for(link, Connected)
            links.append(link)
        yield Wire(*links, random.Random(0).randbytes(size_bytes))


def test_mosquitto_acknowledges_what_it_drops_and_mqtt_3_does_not_say_so(tmp_path: Path) -> None:
    with wire(tmp_path, "3.1.1", KB_128, payload_bytes=20_000) as one:
        assert one.coordinator.max_payload_bytes > 60_000, "nothing was announced"
        assert one.coordinator.publish(DOWN, bytes(60_000))
        assert one.coordinator.publish(DOWN, bytes(20_000))
        assert wait_for(one.device, Received).payload == bytes(20_000)
        connection = one.coordinator._connection
        assert connection is not None
        with connection._settled:
            assert connection._settled.wait_for(lambda: connection._unacknowledged == 0, PATIENCE_S)
        assert one.coordinator.receive(0.3) is None, "the connection stays"
        assert one.device.receive(0.3) is None


def test_mosquitto_ends_the_connection_at_a_packet_over_its_limit(tmp_path: Path) -> None:
    with wire(tmp_path, "3.1.1", KB_128, packet_bytes=20_000) as one:
        one.coordinator.publish(DOWN, bytes(60_000))
        wait_for(one.coordinator, Connected)
        assert one.device.receive(0.3) is None


LIMITS = [KB_128, MB_2]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("limit_bytes", LIMITS)
def test_an_object_passes_a_broker_of_this_limit_in_the_largest_chunks(
    tmp_path: Path, protocol: Version, limit_bytes: int
) -> None:
    """The fleet is configured for what the broker takes, as far as a frame goes."""
    configured_bytes = min(limit_bytes, MB_1)
    largest_bytes = configured_bytes // 2
    limits = {"packet_bytes": limit_bytes, "payload_bytes": limit_bytes, "size_bytes": 12 * largest_bytes}
    with wire(tmp_path, protocol, configured_bytes, **limits) as one:
        assert one.pull(Pace(first_chunk_bytes=largest_bytes // 2), UNHURRIED) == one.data
        assert max(one.sizes) == largest_bytes
        assert one.sizes == sorted(one.sizes), "nothing was asked for in smaller chunks again"
        assert one.came_bytes < len(one.data) + largest_bytes
        assert one.cuts == 0


@pytest.mark.parametrize(
    ("protocol", "limits"),
    [("3.1.1", {"payload_bytes": 20_000}), ("3.1.1", {"packet_bytes": 20_000}), ("5", {"payload_bytes": 20_000})],
    ids=["3.1.1, dropped", "3.1.1, cut", "5, refused"],
)
def test_an_object_passes_a_broker_that_takes_less_than_is_configured(
    tmp_path: Path, protocol: Version, limits: dict[str, int]
) -> None:
    with wire(tmp_path, protocol, KB_128, **limits) as one:
        assert one.pull(Pace()) == one.data
        assert one.sizes.count(32_768) <= 3, "a size that does not get through is remembered"
        assert max(one.sizes) == 32_768
        assert one.came_bytes < 1.1 * len(one.data), "what came once is not asked for again"
        silent = (protocol, *limits) == ("3.1.1", "payload_bytes")
        assert one.cuts == (0 if silent else one.sizes.count(32_768))


def test_what_mqtt_5_announces_is_never_exceeded(tmp_path: Path) -> None:
    with wire(tmp_path, "5", KB_128, packet_bytes=20_000) as one:
        assert one.pull(Pace(), UNHURRIED) == one.data
        assert max(one.sizes) == 16_384
        assert one.cuts == 0
