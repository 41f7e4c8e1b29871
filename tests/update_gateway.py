"""A gateway for boards that update: HTTPS with client certificates, real rollouts behind it, and faults on request."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from coordinator.enrolment.authority import Authority, Pair
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.rollout_store import RolloutStore
from edge_agent.wire.errors import EnrolmentError
from edge_agent.wire.updates import Facts, Orders, UpdateReport

HOST = "127.0.0.1"


@dataclass
class Faults:
    """What goes wrong; counted down where it is a number."""

    cuts: int = 0
    """Connections that end in the middle of a bundle."""
    ranges: bool = True
    status: int = 0
    """What everything is answered with, unless 0."""
    lost_reports: int = 0
    """Reports that are taken, and their answers lost."""
    chunk_pause_s: float = 0.0
    renew: bool = False


@dataclass
class UpdateGateway:
    """`folder` is the fleet's: rollouts.db and releases."""

    folder: Path
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.now = datetime.now(timezone.utc)
        self.authority = Authority.create("test", self.now)
        self.reports: list[tuple[str, UpdateReport]] = []
        self.sent_bytes = 0
        tls = self.folder / "tls"
        tls.mkdir(parents=True)
        (self.folder / "releases").mkdir()
        self.ca = _write(tls / "ca.pem", self.authority.certificate_pem)
        certificate, key = _write_pair(tls, "server", self.authority.server([HOST], self.now))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.server = _Server((HOST, 0), _Handler)
        self.server.gateway = self
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://{HOST}:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def enrol(self, device: str, folder: Path) -> None:
        """Certificate and key of a device, and the authority's, in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / "ca.pem", self.authority.certificate_pem)
        _write_pair(folder, "device", self.authority.client(device, self.now))

    def store(self) -> RolloutStore:
        return RolloutStore(FleetFolder(self.folder).rollouts)

    def configure(self, device: str, folder: Path, state_dir: Path, more: str = "") -> Path:
        """An agent's configuration in `folder`, enrolled here."""
        self.enrol(device, folder / "identity")
        return _write(
            folder / "agent.toml",
            f"""
            device = "{device}"
            fleet = "test"
            data = "data.jsonl"
            state_dir = "{state_dir}"
            {more}
            [gateway]
            url = "{self.url}"
            [broker]
            ca_file = "identity/ca.pem"
            certificate_file = "identity/device.pem"
            key_file = "identity/device.key"
            """.encode(),
        )


class _Server(ThreadingHTTPServer):
    gateway: UpdateGateway
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that a test kills are no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if self._faulty():
            return
        if url.path.startswith("/v1/bundles/"):
            self._bundle(urllib.parse.unquote(url.path.removeprefix("/v1/bundles/")))
        elif url.path == "/v1/orders" and (device := self._device()):
            facts = msgspec.convert(dict(urllib.parse.parse_qsl(url.query)), Facts)
            store = self.server.gateway.store()
            release = store.release_for(device, facts)
            store.close()
            self._answer(200, msgspec.json.encode(Orders(self.server.gateway.faults.renew, release)))
        else:
            self._answer(403 if url.path == "/v1/orders" else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        device = self._device()
        if self._faulty():
            return
        if self.path != "/v1/reports" or not device:
            self._answer(403)
            return
        report = msgspec.json.decode(body, type=UpdateReport)
        gateway = self.server.gateway
        store = gateway.store()
        try:
            store.take_report(device, report)
        except EnrolmentError as error:
            self._answer(422, str(error).encode())
            return
        finally:
            store.close()
        gateway.reports.append((device, report))
        if gateway.faults.lost_reports:
            gateway.faults.lost_reports -= 1
            self.close_connection = True
            return
        self._answer(204)

    def _faulty(self) -> bool:
        if status := self.server.gateway.faults.status:
            self._answer(status)
        return bool(status)

    def _device(self) -> str:
        """The common name of the client's certificate."""
        assert isinstance(self.connection, ssl.SSLSocket)
        certificate: Any = self.connection.getpeercert() or {}
        return next(
            (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"), ""
        )

    def _bundle(self, name: str) -> None:
        gateway, path = self.server.gateway, self.server.gateway.folder / "releases" / name
        if not path.is_file():
            self._answer(404)
            return
        data = path.read_bytes()
        asked = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        start = asked if gateway.faults.ranges else 0
        self.send_response(206 if gateway.faults.ranges else 200)
        if gateway.faults.ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data)
        if gateway.faults.cuts:
            gateway.faults.cuts -= 1
            end = start + max(1, (len(data) - start) // 2)
        for place in range(start, end, 65536):
            part = data[place : min(end, place + 65536)]
            self.wfile.write(part)
            gateway.sent_bytes += len(part)
            time.sleep(gateway.faults.chunk_pause_s)

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Tests have nothing to tell."""


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _write_pair(folder: Path, name: str, pair: Pair) -> tuple[Path, Path]:
    return _write(folder / f"{name}.pem", pair.certificate_pem), _write(folder / f"{name}.key", pair.key_pem)
