"""The page as a service of the gateway: where it listens, with and without TLS, and that it ends at once."""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path

import pytest

from coordinator.web.service import is_loopback
from tests.coordinator.enrolment.gates import utc_now
from tests.coordinator.web.pages import HOST, served

PATIENCE_S = 10.0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("192.168.1.10", False), ("gateway.local", False), ("localhost.evil", False),
    ],
)  # fmt: skip
def test_which_hosts_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_on_loopback_it_is_plain(tmp_path: Path) -> None:
    with served(tmp_path / "fleet") as site:
        assert site.page.url == f"http://{HOST}:{site.fleet.settings.web_port}/"
        assert site.browser().ask("GET", "/login").status == 200


def test_on_any_other_host_it_has_tls_with_the_fleets_certificate_and_secure_cookies(tmp_path: Path) -> None:
    with served(tmp_path / "fleet", web_host="0.0.0.0") as site:
        assert site.page.url == f"https://{HOST}:{site.fleet.settings.web_port}/"
        browser = site.browser(ssl.create_default_context(cafile=site.folder.ca_certificate))
        assert browser.log_in(site.token).status == 303
        assert browser.ask("GET", "/").status == 200
        assert all("secure" in cookie.lower() for cookie in browser.set_cookies if "max-age=0" not in cookie.lower())
        with pytest.raises((ConnectionError, OSError)):
            site.browser().ask("GET", "/login")


def test_a_renewed_certificate_is_taken_up_while_it_serves(tmp_path: Path) -> None:
    with served(tmp_path / "fleet", web_host="0.0.0.0") as site:
        address = (HOST, site.fleet.settings.web_port)
        old = ssl.get_server_certificate(address)
        assert old == site.folder.server_certificate.read_text()
        pair = site.fleet.authority.server([HOST], utc_now())
        site.folder.server_certificate.write_bytes(pair.certificate_pem)
        site.folder.server_key.write_bytes(pair.key_pem)
        site.page.reload()
        assert ssl.get_server_certificate(address) == pair.certificate_pem.decode() != old


def test_on_loopback_there_is_no_certificate_to_take_up(tmp_path: Path) -> None:
    with served(tmp_path / "fleet") as site:
        site.page.reload()
        assert site.browser().ask("GET", "/login").status == 200


def test_it_ends_at_once_although_somebody_watches_and_can_be_started_again(tmp_path: Path) -> None:
    with served(tmp_path / "fleet") as site:
        browser = site.entered()
        watching = threading.Thread(target=_until_the_end, args=(browser,), daemon=True)
        watching.start()
        time.sleep(1.0)
        begun_s = time.monotonic()
        site.page.stop()
        assert time.monotonic() - begun_s < 3
        watching.join(PATIENCE_S)
        assert not watching.is_alive()
        site.page.start()
        assert site.page.failed() is None
        assert browser.ask("GET", "/").status == 200, "sessions outlive a restart of the service alone"
        assert len(browser.messages(1)) == 1


def _until_the_end(browser: object) -> None:
    try:
        browser.messages(10**6)  # type: ignore[attr-defined]
    except AssertionError:
        return


def test_it_answers_on_loopback_under_the_hosts_of_the_fleet(tmp_path: Path) -> None:
    with served(tmp_path / "fleet") as site:
        for host in (*site.fleet.settings.hosts, "localhost"):
            assert site.browser().ask("GET", "/login", host=f"{host}:1234").status == 200
