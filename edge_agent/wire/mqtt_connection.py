"""One connection to a broker, from CONNECT to its end, on a paho client of its own.

A client a connection, so that nothing of a lost connection lingers in paho's queues: what must arrive is sent again
by the session above.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from .lean import without_proxies
from .link import LOGGER, Connected, Event, Received, Will
from .tcp_traffic import TcpTraffic
from .tls import TlsFiles, refusal

with without_proxies():
    import paho.mqtt.client as paho

QUEUED_MESSAGES = 256
"""Messages that may wait for the broker's acknowledgement before `publish` answers False."""
IN_FLIGHT_MESSAGES = 20
"""Of those, how many the broker has at once; Mosquitto's own default."""
ANSWER_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 5.0
FAREWELL_TIMEOUT_S = 2.0
SESSION_EXPIRY_S = 60
"""How long an MQTT 5 broker keeps our session after a cut."""

_UNSUPPORTED_VERSION = 0x84
_HOPELESS = {
    0x85: "the client identifier is not accepted: rename the device",
    0x86: "wrong user name or password: check both, here and at the broker",
    0x87: "not authorised: check user name and password, here and at the broker, and the broker's access list",
    0x8A: "this client is banned",
    0x8C: "another authentication method than user name and password is wanted",
}


@dataclass(frozen=True)
class Terms:
    """What all connections of one link have in common."""

    host: str
    port: int
    client_id: str
    username: str
    password: str = field(repr=False)
    subscriptions: tuple[str, ...]
    will: Will | None
    keepalive_s: int
    max_packet_bytes: int
    tls: TlsFiles | None

    @property
    def address(self) -> str:
        """For messages."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Ending:
    """Why a connection ended.

    `accepted` if the broker took us in and every subscription stood; `unanswered` if it did not speak our version, or
    not at all; `fatal` if trying again cannot help.
    """

    reason: str
    accepted: bool = False
    unanswered: bool = False
    fatal: bool = False


class MqttConnection:
    """`run` in one thread, the rest from any; `put` takes the events, `traffic` watches the socket."""

    def __init__(
        self,
        terms: Terms,
        protocol: MQTTProtocolVersion,
        put: Callable[[Event], object],
        traffic: TcpTraffic,
        *,
        resume: bool,
    ) -> None:
        self.max_packet_bytes = terms.max_packet_bytes
        self._terms = terms
        self._is_v5 = protocol == MQTTProtocolVersion.MQTTv5
        self._resume = resume
        self._put = put
        self._accepted = False
        self._refusal: Ending | None = None
        self._last_words = ""
        self._leaving = threading.Event()
        self._answered = threading.Event()
        self._ended = threading.Event()
        self._retains = False
        """Whether the broker keeps messages for those who subscribe later; one that does not ends a connection that
        asks for it."""
        self._unacknowledged = 0
        self._unacknowledged_limit = QUEUED_MESSAGES
        self._settled = threading.Condition()
        self._tls = None if terms.tls is None else terms.tls.context()
        self._client = self._make_client(protocol, traffic)

    def run(self) -> Ending:
        """Connects and stays until the connection ends."""
        try:
            self._connect()
        except ssl.SSLError as error:
            self._ended.set()
            return Ending(refusal(error, self._terms.address))
        except OSError as error:
            self._ended.set()
            return Ending(f"no broker at {self._terms.address}: {error.strerror or error}")
        self._client.loop_start()
        if self._leaving.is_set():
            self._disconnect()
        if not self._answered.wait(ANSWER_TIMEOUT_S):
            self._cut()
        self._ended.wait()
        self._client.loop_stop()
        return self._refusal or self._ending()

    def publish(self, topic: str, payload: bytes, qos: int, *, retain: bool = False) -> bool:
        """Hands one message to paho; False if the subscriptions do not stand yet, or too many messages wait, or the
        broker is to retain it and does not."""
        if retain and not self._retains:
            return False
        if not self._accepted or self._ended.is_set() or self._leaving.is_set():
            return False
        if self._unacknowledged >= self._unacknowledged_limit:
            return False
        if self._client.publish(topic, payload, qos, retain).rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        with self._settled:
            self._unacknowledged += 1
        return True

    def farewell(self) -> None:
        """Waits for the broker to acknowledge what was published, then disconnects without a will."""
        self._leaving.set()
        with self._settled:
            self._settled.wait_for(lambda: self._unacknowledged <= 0 or self._ended.is_set(), FLUSH_TIMEOUT_S)
        self._disconnect()
        if not self._ended.wait(FAREWELL_TIMEOUT_S):
            self._cut()

    def _make_client(self, protocol: MQTTProtocolVersion, traffic: TcpTraffic) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            self._terms.client_id,
            clean_session=None if self._is_v5 else True,
            protocol=protocol,
            reconnect_on_failure=False,
        )
        client.connect_timeout = ANSWER_TIMEOUT_S
        client.username_pw_set(self._terms.username, self._terms.password)
        client.max_inflight_messages_set(IN_FLIGHT_MESSAGES)
        if self._terms.will is not None:
            client.will_set(self._terms.will.topic, self._terms.will.payload, qos=1)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = lambda _client, _data, opened: traffic.opened(cast("socket.socket", opened))
        client.on_socket_close = lambda *_: traffic.closing()
        return client

    def _connect(self) -> None:
        terms = self._terms
        # Text would go through Python's codec for international names, whose tables take 0.4 MB.
        host = cast(str, terms.host.encode("ascii")) if terms.host.isascii() else terms.host
        if not self._is_v5:
            self._client.connect(host, terms.port, terms.keepalive_s)
            return
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = SESSION_EXPIRY_S
        properties.MaximumPacketSize = terms.max_packet_bytes
        self._client.connect(host, terms.port, terms.keepalive_s, clean_start=not self._resume, properties=properties)

    def _disconnect(self) -> None:
        properties = None
        if self._is_v5:
            properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 0
        self._client.disconnect(properties=properties)

    def _cut(self) -> None:
        connection = cast("socket.socket | None", self._client.socket())
        if connection is not None:
            with contextlib.suppress(OSError):  # it may have ended meanwhile, which is as good
                connection.shutdown(socket.SHUT_RDWR)

    def _on_connect(
        self,
        client: paho.Client,
        _data: Any,
        flags: paho.ConnectFlags,
        code: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if code.is_failure:
            self._refusal = self._refused(code)
            return
        own_bytes = self._terms.max_packet_bytes
        self.max_packet_bytes = min(own_bytes, _announced(properties, "MaximumPacketSize", own_bytes))
        self._retains = bool(_announced(properties, "RetainAvailable", 1))
        receive_maximum = _announced(properties, "ReceiveMaximum", IN_FLIGHT_MESSAGES)
        if receive_maximum < IN_FLIGHT_MESSAGES:  # paho's own limit cannot change once it is connected
            self._unacknowledged_limit = receive_maximum
        if flags.session_present or not self._terms.subscriptions:
            self._accept(flags.session_present)
        else:
            client.subscribe([(topic, 1) for topic in self._terms.subscriptions])

    def _on_subscribe(
        self, client: paho.Client, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Properties | None
    ) -> None:
        refused = [topic for topic, code in zip(self._terms.subscriptions, codes, strict=False) if code.is_failure]
        if refused:
            reason = f"{self._terms.address} refuses a subscription to {', '.join(refused)}: check its access list"
            self._refusal = Ending(reason, fatal=True)
            client.disconnect()
        else:
            self._accept(session_present=False)

    def _accept(self, session_present: bool) -> None:
        self._accepted = True
        self._answered.set()
        self._put(Connected(session_present))

    def _refused(self, code: ReasonCode) -> Ending:
        if code.value == _UNSUPPORTED_VERSION:
            version = "5" if self._is_v5 else "3.1.1"
            return Ending(f"{self._terms.address} does not speak MQTT {version}", unanswered=True)
        advice = _HOPELESS.get(code.value)
        return Ending(f"{self._terms.address} refuses us: {advice or code}", fatal=advice is not None)

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        self._put(Received(message.topic, bytes(message.payload)))

    def _on_publish(
        self, _client: paho.Client, _data: Any, _mid: int, code: ReasonCode, _properties: Properties
    ) -> None:
        if code.is_failure:
            LOGGER.warning("%s did not take a message: %s", self._terms.address, code)
        with self._settled:
            self._unacknowledged -= 1
            self._settled.notify_all()

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: Any,
        flags: paho.DisconnectFlags,
        code: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._last_words = f"closed by the broker: {code}" if flags.is_disconnect_packet_from_server else "lost"
        self._ended.set()
        self._answered.set()
        with self._settled:
            self._settled.notify_all()

    def _ending(self) -> Ending:
        if self._accepted:
            return Ending(f"connection to {self._terms.address} {self._last_words}", accepted=True)
        if self._tls is not None and self._tls.alert is not None:
            return Ending(refusal(self._tls.alert, self._terms.address))
        doubt = "" if self._tls is None else ", or refuses our certificate: is it this fleet's, and still valid?"
        return Ending(f"{self._terms.address} does not answer as an MQTT broker does{doubt}", unanswered=True)


def _announced(properties: Properties | None, limit: str, otherwise: int) -> int:
    return int(getattr(properties, limit, otherwise))
