"""The network between the coordinator and its devices: the broker in memory, behind latency and faults."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from edge_agent.wire import link, topics
from edge_agent.wire.memory_link import MemoryBroker, MemoryLink

from .agenda import Agenda
from .faults import PER_MESSAGE, Fault, Faults
from .settings import FLEET

MAX_PAYLOAD_BYTES = 1536
"""Room for chunks of 1 KB, so that an update passes in several."""
_LATENCY_S = 0.02
_OVERTAKEN_S = (0.05, 1.0)
_DELAYED_S = (2.0, 30.0)
_REMEMBERED = 400
"""Messages that may be replayed."""


class Network:
    """All links of a soak. `arrived(device)` is called when something may lie in a device's inbox."""

    def __init__(self, agenda: Agenda, faults: Faults, arrived: Callable[[str], None]) -> None:
        self.broker = MemoryBroker(max_payload_bytes=MAX_PAYLOAD_BYTES)
        self._agenda = agenda
        self._faults = faults
        self._arrived = arrived
        self._past: deque[tuple[str, bytes]] = deque(maxlen=_REMEMBERED)

    def connect(self, device: str, will: bytes) -> FaultyLink:
        """The link of a device, in place of its last one."""
        up, down = topics.up(FLEET, device), topics.down(FLEET, device)
        return FaultyLink(self, self.broker.link(device, (down,), link.Will(up, will)))

    def connect_coordinator(self) -> FaultyLink:
        """The link of the coordinator, in place of its last one."""
        return FaultyLink(self, self.broker.link(topics.COORDINATOR, (topics.every_up(FLEET),)))

    def carry(self, source: MemoryLink, topic: str, payload: bytes) -> None:
        """Hands a message to the broker after its latency, or however often and late its fault has it."""
        random, fault = self._faults.random, self._faults.of(PER_MESSAGE)
        if random.random() < 0.05:
            self._past.append((topic, payload))
        delays_s = [_LATENCY_S]
        if fault is Fault.LOST:
            delays_s = []
        elif fault is Fault.DUPLICATED:
            delays_s.append(random.uniform(*_OVERTAKEN_S))
        elif fault is not None:
            delays_s = [random.uniform(*(_OVERTAKEN_S if fault is Fault.REORDERED else _DELAYED_S))]
        for delay_s in delays_s:
            self._agenda.after(delay_s, partial(self._hand_over, source, topic, payload))

    def replay(self) -> None:
        """Something that was said earlier is said again."""
        if self._past:
            self._faults.note(Fault.REPLAYED)
            self._deliver(*self._faults.random.choice(self._past))

    def garble(self, device: str) -> None:
        """The coordinator gets an earlier frame with a byte changed, in the name of `device`."""
        frames = [payload for topic, payload in self._past if topic == topics.up(FLEET, topics.device_of(topic))]
        if frames:
            self._faults.note(Fault.GARBLED)
            frame = bytearray(self._faults.random.choice(frames))
            frame[self._faults.random.randrange(len(frame))] ^= 1 + self._faults.random.randrange(255)
            self._deliver(topics.up(FLEET, device), bytes(frame))

    def _hand_over(self, source: MemoryLink, topic: str, payload: bytes) -> None:
        if source.publish(topic, payload):
            self._told(topic)

    def _deliver(self, topic: str, payload: bytes) -> None:
        self.broker.deliver(topic, payload)
        self._told(topic)

    def _told(self, topic: str) -> None:
        device = topics.device_of(topic)
        if topic == topics.down(FLEET, device):
            self._arrived(device)


class FaultyLink:
    """A link whose messages take their time, and meet with faults."""

    def __init__(self, network: Network, inner: MemoryLink) -> None:
        self._network = network
        self._inner = inner

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload that `publish` takes."""
        return self._inner.max_payload_bytes

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Sends a message on its way; False if the connection is cut. What becomes of it, nobody is told."""
        if self._inner.connected:
            self._network.carry(self._inner, topic, payload)
        return self._inner.connected

    def receive(self, timeout_s: float) -> link.Event | None:
        """The next event that is there already: simulated time does not pass in here."""
        return self._inner.receive(0)

    def traffic(self) -> link.Traffic:
        """Topics and payloads since the link was made."""
        return self._inner.traffic()

    def close(self) -> None:
        """Leaves, without a will."""
        self._inner.close()
