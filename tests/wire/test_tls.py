"""What a person is told of a handshake that fails, and files that are renewed under a link that stands."""

from __future__ import annotations

import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.tls import TlsFiles, TlsSettings, context, refusal
from tests.certificates import HOST, LONG_AGO, NOW, client_files, server

AUTHORITY = Authority.create("depot", LONG_AGO)
STRANGER = Authority.create("other", LONG_AGO)


def refused(tls: TlsSettings, port: int) -> str:
    """Why there is no connection, as a link would say it."""
    terms = context(tls)
    try:
        with socket.create_connection((HOST, port)) as raw, terms.wrap_socket(raw, server_hostname=HOST) as wrapped:
            wrapped.recv(1)
    except ssl.SSLError as error:
        assert terms.alert in (None, error)
        return refusal(error, "gateway:8883")
    raise AssertionError("it was not refused")


@pytest.mark.parametrize(
    ("signed_by", "hosts", "made", "said"),
    [
        (STRANGER, (HOST,), NOW, "was not signed by the authority in broker.ca_file"),
        (AUTHORITY, ("10.0.0.1",), NOW, "check broker.host, or add it to the gateway's hosts"),
        (AUTHORITY, (HOST,), LONG_AGO, "check this clock; if it is right, renew"),
        (AUTHORITY, (HOST,), NOW + timedelta(days=30), "this clock is behind"),
    ],
    ids=["another authority", "another name", "expired", "not valid yet"],
)
def test_what_is_wrong_with_the_server(
    tmp_path: Path, signed_by: Authority, hosts: tuple[str, ...], made: object, said: str
) -> None:
    tls = client_files(tmp_path / "device", AUTHORITY, "pi-1")
    with server(tmp_path, signed_by, hosts=hosts, now=made) as port:  # type: ignore[arg-type]
        reason = refused(tls, port)
    assert said in reason
    assert reason.startswith("gateway:8883 is not who it should be: ")


@pytest.mark.parametrize(
    ("issued_by", "made", "said"),
    [
        (STRANGER, NOW, "another fleet's authority"),
        (AUTHORITY, LONG_AGO, "our certificate has expired"),
        (AUTHORITY, NOW + timedelta(days=30), "not valid yet by the gateway's clock"),
    ],
    ids=["another authority", "expired", "not valid yet"],
)
def test_what_is_wrong_with_us(tmp_path: Path, issued_by: Authority, made: object, said: str) -> None:
    own = client_files(tmp_path / "device", issued_by, "pi-1", now=made)  # type: ignore[arg-type]
    ca = client_files(tmp_path / "fleet", AUTHORITY, "x").ca_file
    with server(tmp_path, AUTHORITY, asks=True) as port:
        assert said in refused(TlsSettings(ca, own.certificate_file, own.key_file), port)


def test_that_a_certificate_is_wanted_names_the_settings(tmp_path: Path) -> None:
    ca = client_files(tmp_path, AUTHORITY, "x").ca_file
    with server(tmp_path, AUTHORITY, asks=True) as port:
        assert "set broker.certificate_file and broker.key_file" in refused(TlsSettings(ca), port)


def test_a_port_that_speaks_no_tls_is_named(tmp_path: Path) -> None:
    ca = client_files(tmp_path, AUTHORITY, "x").ca_file
    terms = context(TlsSettings(ca))
    with socket.create_server((HOST, 0)) as listener, socket.create_connection(listener.getsockname()) as raw:
        accepted, _ = listener.accept()
        accepted.sendall(b"220 mail ready\r\n")
        with pytest.raises(ssl.SSLError) as found:
            terms.wrap_socket(raw, server_hostname=HOST)
        accepted.close()
    assert "does not speak TLS as expected: check broker.port" in refusal(found.value, "gateway:25")


def test_older_versions_than_1_2_are_not_spoken(tmp_path: Path) -> None:
    assert context(client_files(tmp_path, AUTHORITY, "pi-1")).minimum_version is ssl.TLSVersion.TLSv1_2


def test_renewed_files_are_taken_and_damaged_ones_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tls = client_files(tmp_path, AUTHORITY, "pi-1")
    files = TlsFiles(tls)
    before = files.context()
    assert tls.certificate_file is not None
    tls.certificate_file.write_text("half a certif")
    assert files.context() is before
    assert "going on with what was read before" in caplog.text
    client_files(tmp_path, AUTHORITY, "pi-1")
    assert files.context() is not before


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    one, other = (client_files(tmp_path, AUTHORITY, name) for name in ("pi-1", "pi-2"))
    with pytest.raises(ConfigError, match=r"cannot use the TLS files .*pi-2\.key"):
        context(TlsSettings(one.ca_file, one.certificate_file, other.key_file))
