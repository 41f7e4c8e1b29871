"""The in-memory broker with faults: it keeps every message until a test says what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, NamedTuple

from edge_agent.wire import link, topics
from edge_agent.wire.link import INBOX_BYTES
from edge_agent.wire.memory_link import MemoryBroker, MemoryLink


class Quality(NamedTuple):
    """What becomes of messages; each is a share of them. `reordered`: they come in any order."""

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    congested: float = 0.0
    """Not even taken from whoever sends."""
    reordered: bool = False


GOOD = Quality()


@dataclass(frozen=True)
class OnItsWay:
    """A message that the broker has; `client` is the device that it is from or for."""

    topic: str
    payload: bytes

    @property
    def client(self) -> str:
        return topics.device_of(self.topic)


class FaultyLink:
    """A link whose messages may not even be taken, and that never waits."""

    def __init__(self, inner: MemoryLink, broker: FaultyBroker) -> None:
        self.idle = True
        """Whether the last look into the inbox found nothing."""
        self._inner = inner
        self._broker = broker

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        if self._broker.is_congested():
            return False
        return self._inner.publish(topic, payload, qos=qos)

    def receive(self, timeout_s: float) -> link.Event | None:
        event = self._inner.receive(0.0)
        self.idle = event is None
        return event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class FaultyBroker(MemoryBroker):
    """Everything that is sent waits in `waiting`; `held` is kept back until it is released. `spy` sees it all first."""

    def __init__(self, spy: Callable[[str, bytes], None]) -> None:
        super().__init__()
        self.waiting: list[OnItsWay] = []
        self.held: list[OnItsWay] = []
        self.quality = GOOD
        self.random = Random(0)
        self._spy = spy

    def faulty_link(self, client_id: str, subscriptions: Sequence[str], will: link.Will | None = None) -> FaultyLink:
        return FaultyLink(self.link(client_id, subscriptions, will, inbox_bytes=INBOX_BYTES), self)

    def deliver(self, topic: str, payload: bytes) -> None:
        """Takes one message; `carry` and `arrive` hand it on."""
        self._spy(topic, payload)
        self.waiting.append(OnItsWay(topic, payload))

    def arrive(self, message: OnItsWay) -> None:
        """Hands one message to whoever is connected."""
        super().deliver(message.topic, message.payload)

    def carry(self) -> None:
        """One turn of the network: every message that waits comes, or whatever else the quality makes of it."""
        due, self.waiting = self.waiting, []
        if self.quality.reordered:
            self.random.shuffle(due)
        for message in due:
            self._carry(message)

    def _carry(self, message: OnItsWay) -> None:
        quality = self.quality
        if self._chance(quality.lost):
            return
        late = self._chance(quality.late)
        if late or self._chance(quality.twice):
            self.waiting.append(message)
        if not late:
            self.arrive(message)

    def is_congested(self) -> bool:
        return self._chance(self.quality.congested)

    def _chance(self, share: float) -> bool:
        return share > 0 and self.random.random() < share

    def is_connected(self, client_id: str) -> bool:
        return client_id in self._links and self._links[client_id].connected

    def forget(self, client_id: str) -> None:
        """What is on its way from and to a device, or for the coordinator, is lost with its session."""
        if client_id == topics.COORDINATOR:
            self.waiting = [one for one in self.waiting if one.topic.endswith(topics.DOWN)]
        else:
            self.waiting = [one for one in self.waiting if one.client != client_id]

    def restore(self, client_id: str) -> None:
        """As the broker does, for a client that was here before."""
        if client_id in self._links:
            super().restore(client_id)

    def heal(self) -> None:
        """No more faults: what was held comes at last."""
        self.quality = GOOD
        self.waiting, self.held = [*self.held, *self.waiting], []
