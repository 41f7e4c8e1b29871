"""A link over MQTT 5 or 3.1.1, on paho-mqtt.

One thread makes connections, one after the other, with exponential back-off and full jitter in between (Brooker,
"Exponential Backoff And Jitter", 2015), so that a fleet does not come back in step.

MQTT 5 adds, where the broker offers it: its Maximum Packet Size bounds our payloads, ours bounds what it sends us,
and a session that outlives a short cut, so that what was on its way to us still arrives. On 3.1.1 nothing is
announced and every session starts clean.
"""

from __future__ import annotations

import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from paho.mqtt.enums import MQTTProtocolVersion

from .errors import ConfigError, LinkError
from .link import INBOX_BYTES, Disconnected, Event, Inbox, Traffic, Will
from .mqtt_connection import Ending, MqttConnection, Terms
from .tcp_traffic import TcpTraffic
from .topics import down

DEFAULT_PACKET_BYTES = 128 * 1024
LONGEST_TOPIC_BYTES = len(down("f" * 64, "d" * 64))
LEAST_PACKET_BYTES = 4 * 1024
MOST_PACKET_BYTES = 2**28 - 1 + 5
"""The largest packet that MQTT has: a remaining length of 28 bits, and the five bytes before it."""
LONGEST_RETRY_S = 8.0
"""So that whoever missed a broker is back within 10 s of its return, however long it was away."""
JOIN_TIMEOUT_S = 5.0
MAX_DOUBLINGS = 16
STABLE_S = 2.0
"""A connection that held so long starts the delays anew; that of a broker that takes us in and drops us does not."""

_PROTOCOLS = {
    "auto": (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311),
    "3.1.1": (MQTTProtocolVersion.MQTTv311,),
    "5": (MQTTProtocolVersion.MQTTv5,),
}


@dataclass(frozen=True)
class TlsSettings:
    """PEM files: the authority that signed the broker, and our own certificate where the broker asks for one."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True)
class MqttSettings:
    """Where the broker is and who we are. `max_packet_bytes` counts a whole packet, header and topic included."""

    host: str
    port: int
    client_id: str
    username: str
    password: str = field(repr=False)
    protocol: Literal["auto", "3.1.1", "5"] = "auto"
    keepalive_s: int = 30
    max_packet_bytes: int = DEFAULT_PACKET_BYTES
    tls: TlsSettings | None = None
    first_retry_s: float = 1.0
    longest_retry_s: float = LONGEST_RETRY_S

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ConfigError(f"expected a broker as host and port 1 to 65535, got {self.host!r}:{self.port}")
        if self.protocol not in _PROTOCOLS:
            raise ConfigError(f"expected protocol {' or '.join(_PROTOCOLS)}, got {self.protocol!r}")
        if not LEAST_PACKET_BYTES <= self.max_packet_bytes <= MOST_PACKET_BYTES:
            raise ConfigError(
                f"max_packet_bytes must be {LEAST_PACKET_BYTES} to {MOST_PACKET_BYTES}, got {self.max_packet_bytes}"
            )


def payload_room_bytes(max_packet_bytes: int) -> int:
    """Largest payload of a QoS 1 PUBLISH on any topic of ours that fits a packet, in either protocol.

    Around it lie: a byte of type, up to four of length, two of topic length, the topic, two of packet identifier
    and one for the absence of MQTT 5 properties.
    """
    return max_packet_bytes - (1 + 4 + 2 + LONGEST_TOPIC_BYTES + 2 + 1)


class MqttLink:
    """A `Link` to the broker of `settings`, connecting from the moment it is made.

    Raises:
        ConfigError: a setting out of range, or a TLS file that cannot be used.
    """

    def __init__(
        self,
        settings: MqttSettings,
        subscriptions: Sequence[str],
        will: Will | None = None,
        *,
        inbox_bytes: int = INBOX_BYTES,
    ) -> None:
        self._settings = settings
        self._inbox = Inbox(inbox_bytes)
        self._traffic = TcpTraffic()
        self._terms = _terms(settings, subscriptions, will)
        self._lock = threading.Lock()
        self._connection: MqttConnection | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_connected, name="mqtt-link", daemon=True)
        self._thread.start()

    @property
    def max_payload_bytes(self) -> int:
        """Largest payload on any topic of ours, at the smaller of our own limit and the broker's."""
        connection = self._connection
        packet_bytes = self._settings.max_packet_bytes if connection is None else connection.max_packet_bytes
        return payload_room_bytes(packet_bytes)

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> bool:
        """Hands one message to the connection; False if there is none or it is congested: nothing was sent.

        Raises:
            LinkError: the payload has more than `max_payload_bytes`.
        """
        if len(payload) > self.max_payload_bytes:
            raise LinkError(
                f"a payload of {len(payload)} bytes for {topic} exceeds the {self.max_payload_bytes} that fit a "
                "packet: send it in smaller chunks, or raise max_packet_bytes here and at the broker"
            )
        connection = self._connection
        return connection is not None and connection.publish(topic, payload, qos)

    def receive(self, timeout_s: float) -> Event | None:
        """The next event, in order; None if there was none for `timeout_s` seconds."""
        return self._inbox.get(timeout_s)

    def traffic(self) -> Traffic | None:
        """What TCP carried, MQTT and TLS overhead included, IP and TCP headers not; None off Linux."""
        return self._traffic.total()

    def close(self) -> None:
        """Flushes, says farewell so that no will is sent, and ends; waits some seconds at most."""
        with self._lock:
            self._closing.set()
            connection = self._connection
        if connection is not None:
            connection.farewell()
        self._thread.join(JOIN_TIMEOUT_S)

    def _keep_connected(self) -> None:
        dialler, reported = _Dialler(self._settings, random.Random()), ""
        while (connection := self._next(dialler)) is not None:
            began_s = time.monotonic()
            ending = connection.run()
            lasted_s = time.monotonic() - began_s
            if dialler.falls_back(ending):
                continue
            if not self._closing.is_set() and (ending.accepted or ending.reason != reported):
                self._inbox.put(Disconnected(ending.reason, ending.fatal))
            if ending.fatal:
                return
            reported = ending.reason
            self._closing.wait(dialler.delay_s(ending, lasted_s))

    def _next(self, dialler: _Dialler) -> MqttConnection | None:
        with self._lock:
            if self._closing.is_set():
                return None
            self._connection = MqttConnection(
                self._terms, dialler.protocol, self._inbox.put, self._traffic, resume=dialler.is_settled
            )
            return self._connection


class _Dialler:
    """Which protocol to try next, and when; `chance` draws the delays."""

    def __init__(self, settings: MqttSettings, chance: random.Random) -> None:
        self._settings = settings
        self._chance = chance
        self._candidates = deque(_PROTOCOLS[settings.protocol])
        self._failures = 0
        self.is_settled = False

    @property
    def protocol(self) -> MQTTProtocolVersion:
        return self._candidates[0]

    def falls_back(self, ending: Ending) -> bool:
        """Whether to try the older protocol at once: `auto` begins with the newer, until one of them is accepted."""
        if ending.accepted and not self.is_settled:
            self.is_settled = True
            self._candidates = deque([self.protocol])
        if not ending.unanswered or len(self._candidates) == 1:
            return False
        self._candidates.rotate()
        return self.protocol == MQTTProtocolVersion.MQTTv311

    def delay_s(self, ending: Ending, lasted_s: float) -> float:
        """How long to wait after a connection that ended so, and lasted so long: anything from 0 to a limit that
        doubles with every one that did not hold."""
        self._failures = 0 if ending.accepted and lasted_s >= STABLE_S else self._failures + 1
        doubled_s = self._settings.first_retry_s * 2.0 ** min(self._failures, MAX_DOUBLINGS)
        return self._chance.uniform(0, min(self._settings.longest_retry_s, doubled_s))


def _terms(settings: MqttSettings, subscriptions: Sequence[str], will: Will | None) -> Terms:
    return Terms(
        settings.host,
        settings.port,
        settings.client_id,
        settings.username,
        settings.password,
        tuple(subscriptions),
        will,
        settings.keepalive_s,
        settings.max_packet_bytes,
        None if settings.tls is None else tls_context(settings.tls),
    )


def tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """What a connection to the broker is encrypted with.

    Raises:
        ConfigError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"cannot use the TLS files {tls}: {error}") from error
    return context
