"""What a link to a broker is: the one shape that MQTT and the in-memory broker share, and their inbox.

A link sends at most once by itself: `publish` never stores a message for a later connection. What must arrive
is acknowledged by a message of the other side, and sent again by the session above until it is. So a lost
connection, a full queue and a broker that drops what it acknowledged are all the same case.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple, Protocol

LOGGER = logging.getLogger(__name__)
INBOX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Connected:
    """The broker took us in and every subscription stands.

    `session_present` is true where the broker kept our session, so that what it queued meanwhile follows.
    """

    session_present: bool


@dataclass(frozen=True)
class Disconnected:
    """The broker is out of reach, or refuses us.

    `fatal` is true where trying again cannot help (a refused password); the link has then given up. Otherwise
    it goes on trying, and `Connected` follows some day.
    """

    reason: str
    fatal: bool


@dataclass(frozen=True)
class Received:
    """One message of a topic that we subscribed to."""

    topic: str
    payload: bytes


Event = Connected | Disconnected | Received


class Traffic(NamedTuple):
    """Bytes since the link was made, over all its connections."""

    bytes_up: int
    bytes_down: int


class Will(NamedTuple):
    """What the broker says in our name when we vanish without a farewell."""

    topic: str
    payload: bytes


class Link(Protocol):
    """A connection to a broker that restores itself; one thread uses it, another may feed it."""

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload that `publish` takes; a new connection may change it."""

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Hands one message to the connection; False if there is none or it is congested: nothing was sent.

        Raises:
            LinkError: the payload has more than `max_payload_bytes`.
        """

    def receive(self, timeout_s: float) -> Event | None:
        """The next event, in order; None if there was none for `timeout_s` seconds."""

    def traffic(self) -> Traffic | None:
        """What went over the network so far; None where the system does not tell."""

    def close(self) -> None:
        """Sends what was published, says farewell so that no will is sent, and ends. May be called twice."""


class Inbox:
    """Events in order of arrival, from any thread; holds at most `limit_bytes` of payload.

    A message beyond that is dropped and counted in `dropped`: the other side sends again what nobody
    answered. Changes of the connection are always kept.
    """

    def __init__(self, limit_bytes: int = INBOX_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._events: deque[Event] = deque()
        self._held_bytes = 0
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, event: Event) -> bool:
        """Appends `event`; False if it was dropped for want of room."""
        size_bytes = _size_bytes(event)
        with self._changed:
            if size_bytes and self._held_bytes + size_bytes > self._limit_bytes:
                self.dropped += 1
                LOGGER.warning("inbox full (%d bytes): %d messages dropped", self._held_bytes, self.dropped)
                return False
            self._events.append(event)
            self._held_bytes += size_bytes
            self._changed.notify()
        return True

    def get(self, timeout_s: float) -> Event | None:
        """Removes the oldest event; None if there was none for `timeout_s` seconds."""
        with self._changed:
            if not self._events and (timeout_s <= 0 or not self._changed.wait_for(self._holds_any, timeout_s)):
                return None
            event = self._events.popleft()
            self._held_bytes -= _size_bytes(event)
        return event

    def _holds_any(self) -> bool:
        return bool(self._events)


def _size_bytes(event: Event) -> int:
    """What a message counts: its topic too, so that empty payloads cannot pile up either."""
    return len(event.topic) + len(event.payload) if isinstance(event, Received) else 0
