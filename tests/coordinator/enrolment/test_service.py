from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment import pace, tls
from coordinator.enrolment.authority import Authority, fingerprint_of, read_request
from coordinator.enrolment.tls import HttpsServer
from edge_agent.wire.errors import ConfigError, LinkError
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import ADMIN, HOST, INSTALLER, Gate, gate, utc_now

KEYS = [BoardKey.make() for _ in range(3)]
REPORT = {"version": "1.0", "python": "3.11", "machine": "aarch64", "release": "r1", "outcome": "installed"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Gate]:
    with gate(tmp_path) as made:
        yield made
        assert made.failed() is None


def submission(site: Gate, device: str = "pi-1", key: BoardKey = KEYS[0], token: str | None = None) -> dict[str, str]:
    return {"token": token or site.token(), "device": device, "request": key.request_pem.decode()}


def eventually(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_board_joins_and_works_with_its_certificate(site: Gate) -> None:
    asked = site.ask("POST", "/v1/requests", submission(site))
    assert asked.status == 200
    assert asked.json["state"] == "pending"
    assert asked.json["fingerprint"] == fingerprint_of(read_request(KEYS[0].request_pem))
    address = f"/v1/requests/{asked.json['id']}"
    assert site.ask("GET", address).json == asked.json
    assert site.administer("POST", f"requests/{asked.json['id']}/approve").json["state"] == "approved"
    pair = site.pair("pi-1.pem", KEYS[0], site.ask("GET", address).json["certificate"].encode())
    assert site.ask("GET", "/v1/orders", pair=pair).json == {"renew": False, "release": None}


def test_the_installer_is_public_and_the_line_has_its_checksum(site: Gate) -> None:
    fetched = site.ask("GET", "/v1/install.sh")
    assert fetched.body == INSTALLER
    line = site.administer("POST", "tokens", {"device": "pi-1"}).json["line"]
    assert hashlib.sha256(fetched.body).hexdigest() in line
    assert line.endswith("--device pi-1")


def test_bundles_are_listed_and_streamed(site: Gate) -> None:
    name, data = "rankfleet-agent-1.2.0-aarch64-cp311.tar", bytes(range(256)) * 20000
    (site.releases / name).write_bytes(data)
    (listed,) = site.ask("GET", "/v1/bundles").json
    assert listed == {
        "name": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "version": "1.2.0",
        "machine": "aarch64", "python": "3.11",
    }  # fmt: skip
    assert site.ask("GET", f"/v1/bundles/{name}").body == data


@pytest.mark.parametrize("name", ["nothing.tar", "..%2fca.pem", "%2e%2e", "..%2fserver.key", "ca.pem", "a%00.tar"])
def test_nothing_but_bundles_is_served(site: Gate, name: str) -> None:
    assert site.ask("GET", f"/v1/bundles/{name}").status == 404


def test_a_release_is_ordered_and_the_report_is_kept(site: Gate) -> None:
    pair = site.enrol("pi-1", KEYS[0])
    site.release = {"name": "r1"}
    assert site.ask("GET", "/v1/orders?version=1.0&machine=aarch64", pair=pair).json["release"] == {"name": "r1"}
    assert site.facts == {"device": "pi-1", "version": "1.0", "machine": "aarch64"}
    assert site.ask("POST", "/v1/reports", {**REPORT, "rollout": 3}, pair=pair).status == 200
    assert site.administer("GET", "devices").json[0]["release"]["rollout"] == 3
    assert site.heard[0][0] == "pi-1"
    assert site.ask("POST", "/v1/reports", {**REPORT, "outcome": 3}, pair=pair).status == 400


def test_a_renewal_withdraws_the_old_certificate_once_the_new_one_was_used(site: Gate) -> None:
    old = site.enrol("pi-1", KEYS[0])
    renewal = {"request": KEYS[1].request_pem.decode()}
    first = site.ask("POST", "/v1/renewals", renewal, pair=old).json
    assert site.ask("POST", "/v1/renewals", renewal, pair=old).json == first
    new = site.pair("new.pem", KEYS[1], first["certificate"].encode())
    assert site.ask("GET", "/v1/orders", pair=new).status == 200
    assert site.ask("GET", "/v1/orders", pair=old).status == 403
    eventually(lambda: site.told.cut_devices == ["pi-1"])
    assert len(site.told.serials) == 1


def test_a_rotation_is_an_order_until_it_is_done(site: Gate) -> None:
    pair = site.enrol("pi-1", KEYS[0])
    assert site.administer("POST", "devices/pi-1/rotate").status == 200
    assert site.ask("GET", "/v1/orders", pair=pair).json["renew"]
    assert site.administer("GET", "devices").json[0]["rotate"]


def test_a_revoked_device_is_refused_at_its_next_request(site: Gate) -> None:
    pair = site.enrol("pi-1", KEYS[0])
    revoked = site.administer("POST", "devices/pi-1/revoke").json
    assert len(revoked["serials"]) == 1
    assert site.told.cut_devices == ["pi-1"]
    for method, path, body in (
        ("GET", "orders", None),
        ("POST", "renewals", {"request": KEYS[1].request_pem.decode()}),
        ("POST", "reports", REPORT),
    ):
        refused = site.ask(method, f"/v1/{path}", body, pair=pair)
        assert refused.status == 403
        assert "revoked" in refused.json["error"]


def test_a_device_renews_for_itself_only(site: Gate) -> None:
    """Whatever the request says: the certificate is made out to the name that the old one had."""
    pair = site.enrol("pi-1", KEYS[0])
    site.enrol("pi-2", KEYS[1])
    assert site.ask("POST", "/v1/renewals", {"request": KEYS[1].request_pem.decode()}, pair=pair).status == 409
    site.ask("POST", "/v1/renewals", {"request": KEYS[2].request_pem.decode()}, pair=pair)
    serials = {one["name"]: len(one["serials"]) for one in site.administer("GET", "devices").json}
    assert serials == {"pi-1": 2, "pi-2": 1}


def test_another_devices_name_is_refused(site: Gate) -> None:
    site.enrol("pi-1", KEYS[0])
    refused = site.ask("POST", "/v1/requests", submission(site, "pi-1", KEYS[1]))
    assert refused.status == 409
    assert "another key" in refused.json["error"]


def test_a_token_that_was_used_or_ran_out_or_is_none_is_refused(site: Gate) -> None:
    token = site.token()
    assert site.ask("POST", "/v1/requests", submission(site, token=token)).status == 200
    assert site.ask("POST", "/v1/requests", submission(site, token=token)).status == 200, "the same board again"
    for asked in (
        submission(site, key=KEYS[1], token=token),
        submission(site, token=site.token(valid_min=-1)),
        submission(site, token="0" * 40),
    ):
        assert site.ask("POST", "/v1/requests", asked).status == 403


@pytest.mark.parametrize("days", [-100, 100])
def test_a_certificate_that_ended_or_is_to_come_is_refused_by_tls(site: Gate, days: int) -> None:
    pair = site.enrol("pi-1", KEYS[0], utc_now() + timedelta(days=days))
    with pytest.raises((ssl.SSLError, ConnectionError)):
        site.ask("GET", "/v1/orders", pair=pair)


def test_a_certificate_of_another_authority_is_refused_by_tls(site: Gate) -> None:
    stranger = Authority.create("site", utc_now()).sign(KEYS[0].request_pem, "pi-1", utc_now())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        site.ask("GET", "/v1/orders", pair=site.pair("stranger.pem", KEYS[0], stranger.certificate_pem))


def test_the_gateways_own_certificates_are_no_devices(site: Gate) -> None:
    client = site.authority.client("coordinator", utc_now())
    pair = site.pair("c.pem", BoardKey(client.key_pem, b""), client.certificate_pem)
    assert site.ask("GET", "/v1/orders", pair=pair).status == 403
    server = site.authority.server([HOST], utc_now())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        site.ask("GET", "/v1/orders", pair=site.pair("s.pem", BoardKey(server.key_pem, b""), server.certificate_pem))


def test_without_a_certificate_or_token_there_is_nothing_but_joining(site: Gate) -> None:
    for method, path in (("GET", "orders"), ("POST", "renewals"), ("POST", "reports"), ("GET", "admin/requests"),
                         ("GET", "admin/devices"), ("POST", "admin/tokens"), ("POST", "admin/devices/x/revoke"),
                         ("POST", "admin/devices/x/rotate"), ("POST", "admin/requests/x/approve"),
                         ("POST", "admin/requests/x/reject")):  # fmt: skip
        assert site.ask(method, f"/v1/{path}", {}).status == 401, path
    assert site.ask("GET", "/v1/admin/devices", authorization=f"Bearer {ADMIN}x").status == 401
    assert site.ask("GET", "/v1/admin/devices", authorization=ADMIN).status == 401
    assert site.ask("GET", "/v1/admin/devices", pair=site.enrol("pi-1", KEYS[0])).status == 401


def test_a_request_is_rejected_with_a_reason(site: Gate) -> None:
    number = site.ask("POST", "/v1/requests", submission(site)).json["id"]
    assert site.administer("GET", "requests").json[0]["id"] == number
    assert site.administer("POST", f"requests/{number}/reject", {"reason": "not ours"}).status == 200
    assert site.ask("GET", f"/v1/requests/{number}").json["reason"] == "not ours"
    assert site.administer("GET", "requests").json == []
    assert site.administer("POST", f"requests/{number}/approve").status == 409
    assert site.ask("GET", "/v1/requests/0").status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"\xff\xfe", b"[" * 5000, b'{"token": 1}', b'{"token": "a", "device": "b"}', b'{"token": NaN}',
     b'{"token": "a", "device": "pi-1", "request": "no request"}',
     b'{"token": "\\ud800", "device": "", "request": ""}'],
)  # fmt: skip
def test_garbage_is_refused_as_such(site: Gate, body: bytes) -> None:
    refused = site.ask("POST", "/v1/requests", body)
    assert refused.status == 400
    assert set(refused.json) == {"error"}
    assert b"Traceback" not in refused.body


def test_a_body_that_is_too_large_is_refused_whatever_it_says_of_its_size(site: Gate) -> None:
    large = b" " * 40_000
    assert site.ask("POST", "/v1/requests", large).status == 413
    context = ssl.create_default_context(cafile=site.ca)
    with context.wrap_socket(socket.create_connection((HOST, site.port), 20), server_hostname=HOST) as connection:
        connection.sendall(b"POST /v1/requests HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        connection.sendall(b"9c40\r\n" + large + b"\r\n")
        assert b" 413 " in connection.recv(1000)


def test_bytes_that_are_no_http_end_the_connection_and_nothing_else(site: Gate) -> None:
    context = ssl.create_default_context(cafile=site.ca)
    with context.wrap_socket(socket.create_connection((HOST, site.port), 20), server_hostname=HOST) as connection:
        connection.sendall(b"\x00\x01nonsense\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    with socket.create_connection((HOST, site.port), 20) as bare:
        bare.sendall(b"GET /v1/bundles HTTP/1.1\r\n\r\n")
        assert b"bundles" not in bare.recv(1000)
    assert site.ask("GET", "/v1/bundles").status == 200


def test_who_connects_and_says_nothing_is_let_go(site: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "FIRST_REQUEST_S", 0.2)
    context = ssl.create_default_context(cafile=site.ca)
    with context.wrap_socket(socket.create_connection((HOST, site.port), 20), server_hostname=HOST) as connection:
        connection.sendall(b"GET /v1/bun")
        assert connection.recv(100) == b""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_an_old_tls_is_refused(site: Gate) -> None:
    context = ssl.create_default_context(cafile=site.ca)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), socket.create_connection((HOST, site.port), 20) as raw:
        context.wrap_socket(raw, server_hostname=HOST)


def test_an_address_that_asks_too_often_waits(site: Gate) -> None:
    answers = [site.ask("POST", "/v1/requests", b"{}") for _ in range(2 * int(pace.BURST))]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused and all(answer.headers["retry-after"] for answer in refused)
    assert site.ask("GET", "/v1/bundles").status == 200


def test_a_database_that_cannot_be_used_is_told_without_details(site: Gate) -> None:
    token = site.token()
    (site.folder / "enrolment.db").write_bytes(b"nonsense" * 1000)
    failed = site.ask("POST", "/v1/requests", submission(site, token=token))
    assert failed.status == 503
    assert str(site.folder) not in failed.body.decode()


def test_every_answer_has_its_headers_and_errors_are_json(site: Gate) -> None:
    for answer in (site.ask("GET", "/"), site.ask("DELETE", "/v1/requests"), site.ask("GET", "/v1/bundles")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["server"] is None
        assert isinstance(answer.json, (dict, list))


def test_a_port_that_is_taken_is_said(site: Gate) -> None:
    second = HttpsServer(lambda *_: None, site.files, HOST, site.port)  # type: ignore[arg-type, return-value]
    with pytest.raises(LinkError, match=str(site.port)):
        second.start()
    with pytest.raises(ConfigError, match="nowhere"):
        replace(site.files, certificate=site.folder / "nowhere").context()


def test_it_starts_again_on_the_same_port(site: Gate) -> None:
    pair = site.enrol("pi-1", KEYS[0])
    site.stop()
    site.start()
    assert site.ask("GET", "/v1/orders", pair=pair).status == 200
