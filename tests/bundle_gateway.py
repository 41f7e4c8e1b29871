"""A gateway that hands out bundles over TLS, with the certificate of a fleet's authority."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from coordinator.enrolment.authority import Authority
from coordinator.enrolment.installer import render
from deploy.cli.fleet import TEMPLATE

AUTHORITY = Authority.create("depot", datetime.now(timezone.utc))
CA = AUTHORITY.certificate_pem.decode()


def script(gateway: str, ca_pem: bytes = AUTHORITY.certificate_pem, broker_port: int = 8883) -> str:
    """The installer of the fleet depot."""
    return render(TEMPLATE.read_text(encoding="utf-8"), ca_pem, gateway, "depot", broker_port).decode()


@dataclass
class Gateway:
    """What it says that it has, and the folder in which that is."""

    folder: Path
    port: int = 0
    bundles: list[dict[str, object]] = field(default_factory=list)

    def publish(self, path: Path, sha256: str | None = None) -> None:
        """Names a bundle in `folder`, by default with its own checksum."""
        version, machine, python = path.stem.removeprefix("rankfleet-agent-").rsplit("-", 2)
        told = {"name": path.name, "bytes": path.stat().st_size, "version": version, "machine": machine}
        digest = sha256 or hashlib.sha256(path.read_bytes()).hexdigest()
        self.bundles.append({**told, "python": f"{python[2]}.{python[3:]}", "sha256": digest})

    def installer(self, authority: Authority = AUTHORITY) -> str:
        """The script of the fleet that `authority` signs for."""
        return script(f"https://127.0.0.1:{self.port}", authority.certificate_pem)


@contextmanager
def serving(folder: Path) -> Iterator[Gateway]:
    """A gateway on loopback for the bundles in `folder`."""
    made = Gateway(folder)
    folder.mkdir(exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.removeprefix("/v1/bundles/")
            known = self.path == "/v1/bundles" or path.is_file()
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(path.read_bytes() if path.is_file() else json.dumps(made.bundles).encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing is logged."""

    pair = AUTHORITY.server(["127.0.0.1"], datetime.now(timezone.utc))
    pem = folder.parent / "server.pem"
    pem.write_bytes(pair.certificate_pem + pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()
