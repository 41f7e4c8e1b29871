"""Shutting a device out while the broker runs.

A broker that reloads its list of revoked certificates refuses them from then on, but leaves a session that stands. So
the list comes first, and then a takeover: MQTT gives a name to whoever connects with it last, and ends the session
that had it. The certificate for that is made on the spot and valid for minutes.
"""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import socket
import ssl
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
from cryptography import x509

from coordinator import revoked
from edge_agent.wire.errors import ConfigError, LinkError
from edge_agent.wire.tls import Context, TlsSettings, context

from . import fleet
from .authority import Authority, Pair
from .folder import FleetFolder

GATEWAY = "127.0.0.1"
HELPER_DAYS = 5 / 1440
RELOAD_S = 10.0
ANSWER_S = 10.0
POLL_S = 0.1
MQTT_5 = 5
_CONNACK = 0x20


class Outcome(enum.Enum):
    """What became of a device's session."""

    NOT_RUNNING = "the broker does not run: the device is refused when it does"
    NO_SESSION = "the broker knew of no session"
    CUT = "its session was ended"


@dataclass(frozen=True)
class Revocations:
    """All serial numbers that are revoked, and all devices that are shut out."""

    serials: frozenset[int]
    devices: frozenset[str]


def publish(folder: FleetFolder, authority: Authority, revocations: Revocations, now: datetime) -> None:
    """Writes both lists: the broker reads its own at `reload`, the coordinator within a second."""
    folder.write(folder.revoked_devices, revoked.encode(revocations.devices))
    folder.write(folder.revoked, authority.revocation_list(revocations.serials, now))


def reload(folder: FleetFolder) -> bool:
    """Has the broker read its files again; False if none runs.

    Raises:
        ConfigError: it is not ours to signal.
    """
    broker = running(folder)
    if broker is None:
        return False
    try:
        os.kill(broker, signal.SIGHUP)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise ConfigError(f"the broker (process {broker}) is another user's: run this as {folder.owner}") from error
    return True


def running(folder: FleetFolder) -> int | None:
    """Process number of the broker that runs with this folder's configuration; None if none does."""
    try:
        number = int(folder.broker_pid.read_text(encoding="ascii"))
        command = psutil.Process(number).cmdline()
    except (OSError, ValueError, psutil.Error):
        return None
    return number if str(folder.mosquitto_conf) in command else None


def cut(folder: FleetFolder, authority: Authority, device: str, revocations: Revocations, now: datetime) -> Outcome:
    """Publishes `revocations`, which shut `device` out, and ends its session; when this returns, it cannot come back.

    Raises:
        LinkError: the broker runs and does not do as it should: the device may still be connected.
        ConfigError, StoreError: the folder cannot be used.
    """
    port = fleet.load(folder.settings).broker_port
    with _helpers(folder, authority, device, now) as (probe, serial, successor):
        publish(folder, authority, Revocations(revocations.serials | {serial}, revocations.devices), now)
        try:
            if not reload(folder):
                return Outcome.NOT_RUNNING
            _wait_refused(probe, port, folder)
            known = _take_over(successor, port, device)
        except ConnectionRefusedError:
            return Outcome.NOT_RUNNING
        finally:
            publish(folder, authority, revocations, now)
    return Outcome.CUT if known else Outcome.NO_SESSION


@contextlib.contextmanager
def _helpers(
    folder: FleetFolder, authority: Authority, device: str, now: datetime
) -> Iterator[tuple[Context, int, Context]]:
    """The terms of a connection that is to be refused, its serial number, and those of the one that takes over."""
    probe, successor = (authority.client(device, now, HELPER_DAYS) for _ in range(2))
    with tempfile.TemporaryDirectory() as name:
        refused = _context(folder, Path(name), probe)
        refused.maximum_version = ssl.TLSVersion.TLSv1_2  # in which a refusal is part of the handshake
        serial = x509.load_pem_x509_certificate(probe.certificate_pem).serial_number
        yield refused, serial, _context(folder, Path(name), successor)


def _context(folder: FleetFolder, files: Path, pair: Pair) -> Context:
    certificate, key = files / "certificate", files / "key"
    certificate.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    return context(TlsSettings(folder.ca_certificate, certificate, key))


def _wait_refused(probe: Context, port: int, folder: FleetFolder) -> None:
    """Until the broker uses the list that `probe` is on. An earlier takeover would let the device come back."""
    deadline_s = time.monotonic() + RELOAD_S
    while time.monotonic() < deadline_s:
        try:
            with _connected(probe, port):
                pass
        except ssl.SSLError as error:
            if "CERTIFICATE_REVOKED" in (error.reason or ""):
                return
            raise LinkError(
                f"the broker on port {port} is not this fleet's, or has another certificate: {error}"
            ) from error
        except ConnectionRefusedError:
            raise
        except OSError as error:
            raise LinkError(f"the broker on port {port} does not answer: {error}") from error
        time.sleep(POLL_S)
    raise LinkError(
        f"the broker did not take the new list of revoked certificates within {RELOAD_S:g} s: does it run with "
        f"{folder.mosquitto_conf}? Restart the gateway, which ends every session"
    )


def _take_over(terms: Context, port: int, device: str) -> bool:
    """Connects as `device` and leaves: whether the broker knew a session of that name, which is ended either way.

    A live connection that wanted no session kept (MQTT 3.1.1) is ended too, but the broker does not tell of it.
    """
    name = device.encode()
    body = struct.pack(">H4sBBHB", 4, b"MQTT", MQTT_5, 0, 30, 0) + struct.pack(">H", len(name)) + name
    try:
        with _connected(terms, port) as connection:
            connection.sendall(bytes((0x10, len(body))) + body)
            answer = _read(connection, 4)
            connection.sendall(b"\xe0\x00")
    except OSError as error:
        raise LinkError(f"the broker on port {port} did not take a connection as {device}: {error}") from error
    if answer[0] != _CONNACK or answer[3]:
        raise LinkError(f"the broker on port {port} did not take a connection as {device}: it answered {answer.hex()}")
    return bool(answer[2] & 1)


@contextlib.contextmanager
def _connected(terms: Context, port: int) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((GATEWAY, port), ANSWER_S) as raw,
        terms.wrap_socket(raw, server_hostname=GATEWAY) as wrapped,
    ):
        yield wrapped


def _read(connection: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ConnectionError("it closed the connection")
        data += piece
    return data
