"""An MQTT 3.1.1 broker inside this process, for a trial on one machine: amqtt in a thread with its own event loop.

Each device may use the topics below `rankfleet/<fleet>/<its name>/` only, the coordinator all of them. For anything
beyond one machine there is Mosquitto: this broker has no TLS and listens on loopback alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ipaddress
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin
from amqtt.session import Session

from edge_agent.wire.errors import ConfigError, LinkError
from edge_agent.wire.mqtt import DEFAULT_PACKET_BYTES
from edge_agent.wire.topics import COORDINATOR, ROOT

MQTT_3_1_1 = 4
MQTT_5 = 5
HANDSHAKE_TIMEOUT_S = 10.0
START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0

_LISTENER = "default"
_MOST_LENGTH_BYTES = 4
_UNSUPPORTED = {MQTT_5: b"\x20\x03\x00\x84\x00"}
"""CONNACK "unsupported protocol version" in the version's own form."""
_UNSUPPORTED_OTHERWISE = b"\x20\x02\x00\x01"


class EmbeddedBroker:
    """A broker for `users` (name to password), running between `start` and `stop`; also a context manager.

    A packet of more than `max_packet_bytes` ends its sender's connection.

    Raises:
        ConfigError: a host that is not loopback.
    """

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        max_packet_bytes: int = DEFAULT_PACKET_BYTES,
    ) -> None:
        if not _is_loopback(host):
            raise ConfigError(
                f"the embedded broker listens on loopback only, not on {host}: it has no TLS. Install Mosquitto and "
                "name it in the configuration"
            )
        self.host = host
        self.port = port
        self._users = dict(users)
        self._max_packet_bytes = max_packet_bytes
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt-broker", daemon=True)

    def start(self) -> int:
        """Starts to listen and returns the port, which the system chooses where it was 0.

        Raises:
            LinkError: the port cannot be used.
        """
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        self._thread.start()
        self._started.wait(START_TIMEOUT_S)
        if self._failure is not None:
            raise LinkError(f"cannot listen on {self.host}:{self.port}: {self._failure}") from self._failure
        return self.port

    def stop(self) -> None:
        """Closes all connections and the port; may be called twice."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(STOP_TIMEOUT_S)

    def __enter__(self) -> EmbeddedBroker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        broker = _Broker(_configuration(self._users))
        await broker.start()
        server = await asyncio.start_server(_Gate(broker, self._max_packet_bytes).admit, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_TIMEOUT_S / 2)


class _Broker(Broker):  # type: ignore[misc]
    """amqtt with access control that never yields to the event loop.

    amqtt asks its plugins in tasks of their own while it walks over its subscriptions: a client that subscribes
    meanwhile breaks the walk, and the message is lost to those not yet reached.
    """

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        return _may_use(session.username, topic)


class PasswordPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Takes in known users with their own password, whose last will lies in their own topics."""

    @dataclass
    class Config:
        """Passwords by user name."""

        users: dict[str, str] = field(default_factory=dict)

    async def authenticate(self, *, session: Session) -> bool:
        """Whether name, password and will are acceptable."""
        expected = self.config.users.get(session.username or "")
        given = session.password or ""
        if expected is None or not hmac.compare_digest(expected.encode(), given.encode()):
            return False
        return not session.will_flag or _may_use(session.username, session.will_topic or "")


class _Gate:
    """Sees every connection before amqtt does: other protocol versions are refused at once.

    amqtt would read an MQTT 5 CONNECT as if it were of version 3.1.1, and wait for bytes that never come.
    """

    def __init__(self, broker: Broker, max_packet_bytes: int) -> None:
        self._broker = broker
        self._max_packet_bytes = max_packet_bytes

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands a connection to amqtt if it begins with an MQTT 3.1.1 CONNECT."""
        try:
            head = await asyncio.wait_for(_connect_head(reader), HANDSHAKE_TIMEOUT_S)
            if head[-1] == MQTT_3_1_1:
                stream = _BoundedReader(reader, head, self._max_packet_bytes)
                await self._broker.external_connected(stream, StreamWriterAdapter(writer), _LISTENER)
            else:
                writer.write(_UNSUPPORTED.get(head[-1], _UNSUPPORTED_OTHERWISE))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError, _TooLargeError):
            logging.getLogger(__name__).info("closed a connection that does not speak MQTT 3.1.1")
        finally:
            writer.close()


class _TooLargeError(Exception):
    """A packet beyond the limit; amqtt ends the connection."""


class _BoundedReader(StreamReaderAdapter):  # type: ignore[misc]
    """Gives back `head` first, and refuses to read more than a packet at once."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes, limit_bytes: int) -> None:
        super().__init__(reader)
        self._head = head
        self._limit_bytes = limit_bytes

    async def read(self, n: int = -1) -> bytes:
        if not 0 <= n <= self._limit_bytes:
            raise _TooLargeError(f"a packet of {n} bytes or more")
        taken, self._head = self._head[:n], self._head[n:]
        return taken + await super().read(n - len(taken)) if len(taken) < n else taken


async def _connect_head(reader: asyncio.StreamReader) -> bytes:
    """Everything up to the version: type, remaining length, protocol name (two bytes of length, `MQTT`), version."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) <= _MOST_LENGTH_BYTES:
        head += await reader.readexactly(1)
    return head + await reader.readexactly(2 + len(b"MQTT") + 1)


def _may_use(user: str | None, topic: str) -> bool:
    """The access list of the fleet: all for the coordinator, `rankfleet/+/<name>/#` for a device, without wildcards
    where its name stands."""
    if user == COORDINATOR:
        return True
    levels = topic.split("/")
    return len(levels) > 3 and levels[0] == ROOT and levels[2] == user


def _configuration(users: Mapping[str, str]) -> dict[str, object]:
    return {
        "listeners": {_LISTENER: {"type": "external"}},
        "plugins": {f"{__name__}.{PasswordPlugin.__name__}": {"users": dict(users)}},
    }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
