"""The HTTPS server: which addresses it listens on, and how it takes up another certificate."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from coordinator.enrolment.authority import Authority
from coordinator.enrolment.tls import HttpsServer, ServerFiles, everywhere
from edge_agent.wire.errors import ConfigError
from tests.certificates import HOST, NOW, store

AUTHORITY = Authority.create("site", NOW)
SIX = "::1"


def files(folder: Path) -> ServerFiles:
    """With a new certificate; in place of an old one, if one is there."""
    ca = folder / "ca.pem"
    ca.write_bytes(AUTHORITY.certificate_pem)
    certificate, key = store(folder, "server", AUTHORITY.server([HOST, SIX], NOW))
    return ServerFiles(certificate, key, ca)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[HttpsServer]:
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])
    made = HttpsServer(app, files(tmp_path), everywhere(), 0)
    made.start()
    yield made
    assert made.failed() is None
    made.stop()


def connected(server: HttpsServer, folder: Path, host: str = HOST) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    connection = http.client.HTTPSConnection(host, server.port, timeout=20, context=context)
    connection.connect()
    return connection


def served(connection: http.client.HTTPSConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def certificate_of(connection: http.client.HTTPSConnection) -> str:
    assert isinstance(connection.sock, ssl.SSLSocket)
    shown = connection.sock.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


@pytest.mark.parametrize("host", [HOST, SIX])
def test_it_listens_on_every_address_of_the_system(host: str, server: HttpsServer, tmp_path: Path) -> None:
    if host == SIX and not socket.has_dualstack_ipv6():
        pytest.skip("NOT TESTED: this system has no IPv6")
    connection = connected(server, tmp_path, host)
    assert served(connection) == b"here"
    connection.close()


def test_without_ipv6_it_listens_on_every_address_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert everywhere() == "0.0.0.0"


def test_a_renewed_certificate_is_taken_up_while_it_serves(server: HttpsServer, tmp_path: Path) -> None:
    old = (tmp_path / "server.pem").read_text()
    before = connected(server, tmp_path)
    assert certificate_of(before) == old
    files(tmp_path)
    server.reload()
    after = connected(server, tmp_path)
    assert certificate_of(after) == (tmp_path / "server.pem").read_text() != old
    assert (served(before), served(after)) == (b"here", b"here")
    before.close()
    after.close()


def test_a_pair_that_does_not_fit_is_refused_and_the_one_before_stays(server: HttpsServer, tmp_path: Path) -> None:
    old = (tmp_path / "server.pem").read_text()
    key = (tmp_path / "server.key").read_bytes()
    files(tmp_path)
    (tmp_path / "server.key").write_bytes(key)
    with pytest.raises(ConfigError, match="cannot use"):
        server.reload()
    connection = connected(server, tmp_path)
    assert certificate_of(connection) == old
    assert served(connection) == b"here"
    connection.close()


def test_a_server_that_does_not_run_has_nothing_to_take_up(server: HttpsServer) -> None:
    server.stop()
    server.reload()
