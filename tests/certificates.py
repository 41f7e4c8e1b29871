"""Certificates of a fleet's authority as files, and a server that shows one of them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

from coordinator.enrolment.authority import Authority, Pair
from edge_agent.wire.tls import TlsSettings

NOW = datetime.now(timezone.utc)
"""When the tests were collected: what is valid for minutes only is made by `now`."""
LONG_AGO = NOW - timedelta(days=900)
HOST = "127.0.0.1"


def now() -> datetime:
    return datetime.now(timezone.utc)


def store(folder: Path, name: str, pair: Pair) -> tuple[Path, Path]:
    """Certificate and key of `pair` as files."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    return certificate, key


def client_files(
    folder: Path, authority: Authority, name: str, now: datetime = NOW, days: float = 90, file: str = ""
) -> TlsSettings:
    """What a device with a certificate of its own needs."""
    certificate, key = store(folder, file or name, authority.client(name, now, days))
    ca = folder / "ca.pem"
    ca.write_bytes(authority.certificate_pem)
    return TlsSettings(ca, certificate, key)


@contextlib.contextmanager
def server(
    folder: Path, authority: Authority, *, hosts: tuple[str, ...] = (HOST,), now: datetime = NOW, asks: bool = False
) -> Iterator[int]:
    """A TLS server that ends every connection after its handshake; its port. `asks` for a client's certificate."""
    certificate, key = store(folder, "server", authority.server(hosts, now))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if asks:
        context.load_verify_locations(cadata=authority.certificate_pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=_serve, args=(listener, context), daemon=True).start()
        yield listener.getsockname()[1]


def _serve(listener: socket.socket, context: ssl.SSLContext) -> None:
    while True:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return
        with accepted, contextlib.suppress(OSError), context.wrap_socket(accepted, server_side=True) as wrapped:
            wrapped.recv(1)
