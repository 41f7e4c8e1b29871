"""A broker and its links in one process, without a network: for experiments and tests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache

from paho.mqtt.client import topic_matches_sub

from .errors import LinkError
from .link import INBOX_BYTES, Connected, Disconnected, Event, Inbox, Received, Traffic, Will
from .mqtt import DEFAULT_PACKET_BYTES, payload_room_bytes

MAX_PAYLOAD_BYTES = payload_room_bytes(DEFAULT_PACKET_BYTES)
_matches = lru_cache(maxsize=4096)(topic_matches_sub)  # a fleet has few topics, and says much on each


class MemoryBroker:
    """Hands every message at once to all links whose subscriptions match; any thread may use it."""

    def __init__(self, *, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.max_payload_bytes = max_payload_bytes
        self._links: dict[str, MemoryLink] = {}
        self._exact: dict[str, dict[str, MemoryLink]] = {}
        """By topic and client, the links that subscribed to just that topic."""
        self._patterns: dict[str, MemoryLink] = {}
        """By client, the links with a subscription that may match several topics."""
        self._lock = threading.RLock()

    def link(
        self,
        client_id: str,
        subscriptions: Sequence[str],
        will: Will | None = None,
        *,
        inbox_bytes: int = INBOX_BYTES,
    ) -> MemoryLink:
        """A connected link. It takes the place of an earlier one of the same client, as with MQTT."""
        with self._lock:
            self.cut(client_id)
            self._links[client_id] = link = MemoryLink(self, subscriptions, will, Inbox(inbox_bytes))
            self._index(client_id, link, subscriptions)
            link.restore()
        return link

    def _index(self, client_id: str, link: MemoryLink, subscriptions: Sequence[str]) -> None:
        for links in (self._patterns, *self._exact.values()):
            links.pop(client_id, None)
        for topic in subscriptions:
            found = self._patterns if "+" in topic or "#" in topic else self._exact.setdefault(topic, {})
            found[client_id] = link

    def cut(self, client_id: str) -> None:
        """Breaks the connection of a client without a farewell: the others get its will."""
        with self._lock:
            link = self._links.get(client_id)
            if link is None or not link.connected:
                return
            link.lose("the connection was cut")
            if link.will is not None:
                self.deliver(link.will.topic, link.will.payload)

    def restore(self, client_id: str) -> None:
        """Lets a client that was cut connect again."""
        with self._lock:
            self._links[client_id].restore()

    def leave(self, link: MemoryLink) -> None:
        """A farewell: no will is sent."""
        with self._lock:
            link.lose("closed")

    def deliver(self, topic: str, payload: bytes) -> None:
        """Hands one message to everyone who subscribed to its topic."""
        with self._lock:
            for link in {**self._exact.get(topic, {}), **self._patterns}.values():
                link.offer(topic, payload)


class MemoryLink:
    """A `Link` to a `MemoryBroker`, which makes it. Counts topic and payload as its traffic."""

    def __init__(self, broker: MemoryBroker, subscriptions: Sequence[str], will: Will | None, inbox: Inbox) -> None:
        self.will = will
        self.connected = False
        self._broker = broker
        self._subscriptions = tuple(subscriptions)
        self._inbox = inbox
        self._traffic = Traffic(0, 0)
        self._closed = False

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload that the broker takes."""
        return self._broker.max_payload_bytes

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Hands one message to the broker; False if the connection is cut. The quality of service makes no difference.

        Raises:
            LinkError: the payload has more than `max_payload_bytes`.
        """
        if len(payload) > self.max_payload_bytes:
            raise LinkError(f"a payload of {len(payload)} bytes for {topic} exceeds {self.max_payload_bytes}")
        if not self.connected:
            return False
        self._traffic = self._traffic._replace(bytes_up=self._traffic.bytes_up + len(topic) + len(payload))
        self._broker.deliver(topic, payload)
        return True

    def receive(self, timeout_s: float) -> Event | None:
        """The next event, in order; None if there was none for `timeout_s` seconds."""
        return self._inbox.get(timeout_s)

    def traffic(self) -> Traffic:
        """Topics and payloads since the link was made."""
        return self._traffic

    def close(self) -> None:
        """Leaves, without a will."""
        if not self._closed:
            self._closed = True
            self._broker.leave(self)

    def offer(self, topic: str, payload: bytes) -> None:
        """For the broker: takes a message if it is connected and subscribed to its topic."""
        if self.connected and any(_matches(pattern, topic) for pattern in self._subscriptions):
            self._traffic = self._traffic._replace(bytes_down=self._traffic.bytes_down + len(topic) + len(payload))
            self._inbox.put(Received(topic, payload))

    def lose(self, reason: str) -> None:
        """For the broker: the connection is gone."""
        if self.connected and not self._closed:
            self._inbox.put(Disconnected(reason, fatal=False))
        self.connected = False

    def restore(self) -> None:
        """For the broker: the connection is there (again)."""
        if not self._closed and not self.connected:
            self.connected = True
            self._inbox.put(Connected(session_present=False))
