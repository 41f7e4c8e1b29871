"""A real enrolment service on loopback, and a bare client of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from coordinator.enrolment import installer
from coordinator.enrolment.authority import Authority
from coordinator.enrolment.desk import Desk
from coordinator.enrolment.parts import Parts
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.service import application
from coordinator.enrolment.shelf import Shelf
from coordinator.enrolment.tls import HttpsServer, ServerFiles
from tests.coordinator.enrolment.fleets import BoardKey, Told

HOST = "127.0.0.1"
ADMIN = "rfa_secret"
INSTALLER = b"#!/bin/sh\necho installed\n"


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Gate:
    """The service of one fleet. Dates are real, since TLS looks at them; `port` stays the same over restarts."""

    folder: Path
    port: int = 0
    told: Told = field(default_factory=Told)
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    release: Any = None
    facts: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = Authority.create("site", utc_now())
        self.ca = self._file("ca.pem", self.authority.certificate_pem)
        server = self.authority.server([HOST], utc_now())
        self.files = ServerFiles(
            self._file("server.pem", server.certificate_pem), self._file("server.key", server.key_pem), self.ca
        )
        self.releases = self.folder / "releases"
        self.releases.mkdir()
        self._server: HttpsServer | None = None

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    @contextlib.contextmanager
    def desk(self) -> Iterator[Desk]:
        registry = Registry(self.folder / "enrolment.db")
        try:
            yield Desk(registry, self.authority, self.told, "a test")
        finally:
            registry.close()

    def start(self) -> None:
        parts = Parts(
            self.desk, Shelf(self.releases), INSTALLER,
            lambda token, device: installer.pasted_line(self.url, INSTALLER, token, device),
            lambda token: token == ADMIN, utc_now, self._release_for,
            lambda device, body: self.heard.append((device, body)),
        )  # fmt: skip
        self._server = HttpsServer(application(parts), self.files, HOST, self.port)
        self._server.start()
        self.port = self._server.port

    def failed(self) -> str | None:
        assert self._server is not None
        return self._server.failed()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def token(self, device: str | None = None, valid_min: float = 15) -> str:
        with self.desk() as desk:
            return desk.issue_token(utc_now(), valid_min, device)

    def enrol(self, name: str, key: BoardKey, now: datetime | None = None) -> Path:
        """A device's certificate and key in one file, without the detour over the network."""
        now = now or utc_now()
        with self.desk() as desk:
            request = desk.submit(desk.issue_token(now, device=name), name, key.request_pem, now)
            approved = desk.approve(request.id, now)
        assert approved.certificate is not None
        return self.pair(f"{approved.id}.pem", key, approved.certificate)

    def pair(self, name: str, key: BoardKey, certificate_pem: bytes) -> Path:
        return self._file(name, certificate_pem + key.key_pem)

    def ask(self, method: str, path: str, body: object = None, *, pair: Path | None = None, **headers: str) -> Answer:
        """`body` as JSON, or bytes as they are."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair)
        connection = http.client.HTTPSConnection(HOST, self.port, timeout=20, context=context)
        try:
            connection.request(method, path, data, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers)
        finally:
            connection.close()

    def administer(self, method: str, path: str, body: object = None) -> Answer:
        return self.ask(method, f"/v1/admin/{path}", body, authorization=f"Bearer {ADMIN}")

    def _release_for(self, device: str, facts: dict[str, str]) -> Any:
        self.facts = {"device": device, **facts}
        return self.release

    def _file(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return path


@contextlib.contextmanager
def gate(folder: Path) -> Iterator[Gate]:
    made = Gate(folder)
    made.start()
    try:
        yield made
    finally:
        made.stop()
