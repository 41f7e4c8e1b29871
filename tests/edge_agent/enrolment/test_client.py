from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment.authority import Authority
from edge_agent.enrolment import client, dates
from edge_agent.enrolment.client import Gateway
from edge_agent.wire.errors import ConfigError, EnrolmentError
from tests.brokers import free_port
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import HOST, Gate, gate, utc_now

KEY = BoardKey.make()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path) as made:
        yield made


def asking(site: Gate, **changes: object) -> Gateway:
    values: dict[str, object] = {"url": site.url, "ca": site.ca, "identity": site.folder} | changes
    return Gateway(**values)  # type: ignore[arg-type]


def refusal(gateway: Gateway, path: str = "/v1/orders") -> str:
    with pytest.raises(EnrolmentError) as refused:
        gateway.ask(path)
    return str(refused.value)


def test_the_date_of_a_verified_answer_is_kept(site: Gate) -> None:
    pair = site.enrol("pi-1", KEY)
    assert asking(site, certificate=pair).ask("/v1/orders") == {"renew": False, "release": None}
    assert dates.newest_s(site.folder) == pytest.approx(utc_now().timestamp(), abs=30)


def test_a_refusal_is_in_the_gateways_words(site: Gate) -> None:
    with pytest.raises(EnrolmentError, match="no such request") as refused:
        asking(site).ask("/v1/requests/0")
    assert refused.value.status == 404


def test_another_authority_is_not_trusted(site: Gate, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Authority.create("other", utc_now()).certificate_pem)
    assert "is this the CA of this fleet" in refusal(asking(site, ca=other))
    assert dates.newest_s(site.folder) is None, "the date of a stranger counts for nothing"


def test_a_certificate_for_another_name_is_not_trusted(site: Gate) -> None:
    assert "hosts" in refusal(asking(site, url=f"https://localhost:{site.port}"))


def test_a_board_of_another_fleet_is_told_so(site: Gate) -> None:
    stranger = Authority.create("other", utc_now()).sign(KEY.request_pem, "pi-1", utc_now())
    pair = site.pair("stranger.pem", KEY, stranger.certificate_pem)
    assert "another fleet" in refusal(asking(site, certificate=pair))


def test_an_ended_certificate_is_told_with_what_to_do(site: Gate) -> None:
    pair = site.enrol("pi-1", KEY, utc_now() - timedelta(days=100))
    with pytest.raises(EnrolmentError, match=r"has ended.*token") as refused:
        asking(site, certificate=pair).ask("/v1/orders")
    assert refused.value.status == 403
    site.stop()
    assert "nothing listens" in refusal(asking(site, certificate=pair)), "that says nothing of the certificate"


@pytest.mark.parametrize("days", [-900, 900])
def test_a_wrong_clock_is_told(tmp_path: Path, days: int) -> None:
    """The gateway's certificate is from another time than this board's, which comes to the same."""
    when = utc_now() + timedelta(days=days)
    authority = Authority.create("site", utc_now() - timedelta(days=1000))
    server = authority.server([HOST], when)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "server.pem").write_bytes(server.certificate_pem + server.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    with socket.create_server((HOST, 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, pytest.raises(OSError), context.wrap_socket(connection, server_side=True) as wrapped:
                wrapped.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"https://{HOST}:{listening.getsockname()[1]}"
        said = refusal(Gateway(url, tmp_path / "ca.pem", tmp_path))
        thread.join()
    assert "set the clock" in said
    assert "this board says it is" in said


def test_nobody_there_is_told(site: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing listens" in refusal(asking(site, url=f"https://{HOST}:{free_port()}"))
    assert "name is unknown" in refusal(asking(site, url="https://gateway.invalid:8443"))
    monkeypatch.setattr(client, "TIMEOUT_S", 0.2)
    with socket.create_server((HOST, 0)) as silent:
        assert "no answer in time" in refusal(asking(site, url=f"https://{HOST}:{silent.getsockname()[1]}"))


def test_a_proxy_of_the_environment_is_not_used(site: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://{HOST}:{free_port()}")
    assert "no such request" in refusal(asking(site), "/v1/requests/0")


def test_something_else_than_a_gateway_is_told(site: Gate) -> None:
    assert "as a gateway does" in refusal(asking(site), "/v1/install.sh")
    assert "as a gateway does" in refusal(asking(site), "/v1/bundles"), "a list, where an object is expected"


@pytest.mark.parametrize("url", ["http://gw:8443", "file:///etc/passwd", "gw"])
def test_only_https_is_used(site: Gate, url: str) -> None:
    with pytest.raises(ConfigError, match="https://HOST"):
        asking(site, url=url).ask("/v1/orders")


def test_a_file_that_cannot_be_used_is_named(site: Gate, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        asking(site, ca=tmp_path / "nowhere").ask("/v1/orders")
