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
from types import TracebackType

from amqtt.adapters import BufferReader, StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.connect import ConnectPacket
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

LOGGER = logging.getLogger(__name__)

_LISTENER = "default"
_CONNECT = 0x10
_MOST_LENGTH_BYTES = 4
_BROKEN = (asyncio.IncompleteReadError, asyncio.TimeoutError, OSError, AMQTTError, MQTTError, NoDataError)
_NOT_AUTHORISED = b"\x20\x02\x00\x05"
_UNSUPPORTED: dict[int | None, bytes] = {MQTT_5: b"\x20\x03\x00\x84\x00"}
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
        if not self._started.wait(START_TIMEOUT_S) or self._failure is not None:
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
        except (OSError, AMQTTError) as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        broker = _Broker({"listeners": {_LISTENER: {"type": "external"}}, "plugins": {_PLUGIN: {}}})
        await broker.start()
        gate = _Gate(broker, self._users, self._max_packet_bytes)
        server = await asyncio.start_server(gate.admit, self.host, self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stopping.wait()
        server.close()
        gate.close()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(broker.shutdown(), STOP_TIMEOUT_S / 2)


class _Broker(Broker):  # type: ignore[misc]
    """amqtt with access control that never yields to the event loop.

    amqtt asks its plugins in tasks of their own while it walks over its subscriptions: a client that subscribes
    meanwhile breaks the walk, and the message is lost to those not yet reached.
    """

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        return _may_use(session.username, topic)


class GatedPlugin(BaseAuthPlugin):  # type: ignore[misc]
    """Takes in everyone whom the gate let through; amqtt wants a plugin to say so."""

    async def authenticate(self, *, session: Session) -> bool:
        """Always true: see `_Gate`."""
        return True


_PLUGIN = f"{GatedPlugin.__module__}.{GatedPlugin.__name__}"


class _Gate:
    """Decides on every connection before amqtt sees it.

    amqtt would read an MQTT 5 CONNECT as if it were of version 3.1.1, and wait for bytes that never come. And it ends
    the session of a client before it looks at the password of whoever claims to be that client.
    """

    def __init__(self, broker: Broker, users: Mapping[str, str], max_packet_bytes: int) -> None:
        self._broker = broker
        self._users = users
        self._max_packet_bytes = max_packet_bytes
        self._open: set[asyncio.StreamWriter] = set()

    def close(self) -> None:
        """Ends all connections: amqtt cancels their readers, which `asyncio.wait_for` loses now and then."""
        for writer in self._open:
            writer.transport.abort()

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hands a connection to amqtt if it begins with a CONNECT of version 3.1.1 by a known user."""
        self._open.add(writer)
        try:
            packet = await asyncio.wait_for(_first_packet(reader, self._max_packet_bytes), HANDSHAKE_TIMEOUT_S)
            refusal = await self._refusal(packet)
            if refusal is None:
                stream = _BoundedReader(reader, packet, self._max_packet_bytes)
                await self._broker.external_connected(stream, StreamWriterAdapter(writer), _LISTENER)
            else:
                writer.write(refusal)
                await writer.drain()
        except (
            asyncio.IncompleteReadError,
            asyncio.TimeoutError,
            OSError,
            AMQTTError,
            MQTTError,
            NoDataError,
        ) as error:
            LOGGER.info("closed a connection: %r", error)
        finally:
            self._open.discard(writer)
            writer.close()

    async def _refusal(self, packet: bytes) -> bytes | None:
        version = _version(packet)
        if version != MQTT_3_1_1:
            return _UNSUPPORTED.get(version, _UNSUPPORTED_OTHERWISE)
        connect = await ConnectPacket.from_stream(BufferReader(packet))
        return None if self._is_known(connect) else _NOT_AUTHORISED

    def _is_known(self, connect: ConnectPacket) -> bool:
        """Whether user and password are right, and the last will, which amqtt does not check, is the user's own."""
        expected, given = self._users.get(connect.username or ""), connect.password or ""
        if expected is None or not hmac.compare_digest(expected.encode(), given.encode()):
            return False
        return not connect.will_flag or _may_use(connect.username, connect.will_topic or "")


class _BoundedReader(StreamReaderAdapter):  # type: ignore[misc]
    """Gives back `head` first, and ends the connection at a packet of more than `limit_bytes`."""

    def __init__(self, reader: asyncio.StreamReader, head: bytes, limit_bytes: int) -> None:
        super().__init__(reader)
        self._head = head
        self._limit_bytes = limit_bytes

    async def read(self, n: int = -1) -> bytes:
        """Exactly `n` bytes."""
        if not 0 <= n <= self._limit_bytes:
            raise AMQTTError(f"a packet of {n} bytes or more exceeds {self._limit_bytes}")
        taken, self._head = self._head[:n], self._head[n:]
        return taken + await super().read(n - len(taken)) if len(taken) < n else taken


async def _first_packet(reader: asyncio.StreamReader, limit_bytes: int) -> bytes:
    """Type, remaining length in seven bits a byte, and what they announce."""
    head = await reader.readexactly(2)
    while head[-1] & 0x80 and len(head) <= _MOST_LENGTH_BYTES:
        head += await reader.readexactly(1)
    remaining_bytes = sum((byte & 0x7F) << 7 * position for position, byte in enumerate(head[1:]))
    if head[0] != _CONNECT or remaining_bytes > limit_bytes:
        raise MQTTError(f"expected a CONNECT of at most {limit_bytes} bytes, got {head!r}")
    return head + await reader.readexactly(remaining_bytes)


def _version(connect: bytes) -> int | None:
    """The byte after the protocol's name, by whatever name."""
    name_at = next(position for position in range(1, len(connect)) if not connect[position] & 0x80) + 1
    name_bytes = int.from_bytes(connect[name_at : name_at + 2], "big")
    version = connect[name_at + 2 + name_bytes : name_at + 3 + name_bytes]
    return version[0] if version else None


def _may_use(user: str | None, topic: str) -> bool:
    """The access list of the fleet: all for the coordinator, `rankfleet/+/<name>/#` for a device, without wildcards
    where its name stands."""
    if user == COORDINATOR:
        return True
    levels = topic.split("/")
    return len(levels) > 3 and levels[0] == ROOT and levels[2] == user


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
