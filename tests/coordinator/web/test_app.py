"""The live page as a browser meets it: who is let in, what other sites cannot do, and what an operator decides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import pause
from coordinator.enrolment import admin_token
from coordinator.store import DeviceRow
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import utc_now
from tests.coordinator.web.pages import HOST, Served, hidden, served


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path / "fleet") as one:
        yield one


def test_nothing_is_shown_before_the_log_in(site: Served) -> None:
    browser = site.browser()
    assert browser.ask("GET", "/").headers["location"] == "/login"
    for path in ("/api/events", "/api/devices/pi-1"):
        assert browser.ask("GET", path).status == 401
    for path in ("/api/rounds/pause", "/api/requests/1/approve", "/logout"):
        assert browser.ask("POST", path, "{}").status == 401


def test_a_token_lets_in_and_a_wrong_one_does_not(site: Served) -> None:
    browser = site.browser()
    refused = browser.log_in("rfa_wrong")
    assert refused.status == 401 and "no admin token" in refused.text
    entered = browser.log_in(f" {site.token}\n")
    assert (entered.status, entered.headers["location"]) == (303, "/")
    page = browser.ask("GET", "/")
    assert page.status == 200 and "depot" in page.text
    assert site.token not in page.text
    assert browser.ask("GET", "/login").headers["location"] == "/"


def test_cookies_are_for_the_page_alone(site: Served) -> None:
    browser = site.entered()
    assert browser.set_cookies
    for cookie in browser.set_cookies:
        if "max-age=0" in cookie.lower():
            continue
        parts = {part.strip().lower() for part in cookie.split(";")}
        assert {"httponly", "samesite=strict", "path=/"} <= parts and "secure" not in parts


def test_log_ins_are_counted_by_address(site: Served) -> None:
    browser = site.browser()
    found = [browser.log_in("rfa_wrong").status for _ in range(7)]
    assert found == [401] * 5 + [429] * 2
    answer = browser.log_in(site.token)
    assert answer.status == 429 and int(answer.headers["retry-after"]) > 0


def test_log_ins_that_succeed_are_not_counted(site: Served) -> None:
    for _ in range(4):
        browser = site.browser()
        assert [browser.log_in("rfa_wrong").status, browser.log_in(site.token).status] == [401, 303]


def test_a_log_in_needs_the_forms_own_token(site: Served) -> None:
    browser = site.browser()
    token = hidden(browser.ask("GET", "/login").text)
    assert browser.form("/login", {"csrf": "", "token": site.token}).status == 403
    other = site.browser()
    assert other.form("/login", {"csrf": token, "token": site.token}).status == 403
    assert browser.form("/login", {f"field{number}": "x" for number in range(20)}).status == 400
    assert browser.form("/login", {"csrf": token, "token": "x" * 10_000}).status == 413


def test_who_logs_out_is_out(site: Served) -> None:
    browser = site.entered()
    kept = dict(browser.cookies)
    assert browser.form("/logout", {"csrf": "wrong"}).status == 403
    assert browser.form("/logout", {"csrf": browser.csrf()}).headers["location"] == "/login"
    browser.cookies = kept
    assert browser.ask("GET", "/api/events").status == 401


def test_a_token_that_is_taken_back_ends_its_sessions(site: Served) -> None:
    browser = site.entered()
    other = admin_token.make()
    site.folder.write(site.folder.admin_tokens, f"{admin_token.digest(other)}\n".encode())
    assert browser.ask("GET", "/").status == 303


def test_every_answer_keeps_others_scripts_and_frames_away(site: Served) -> None:
    browser = site.entered()
    for path in ("/", "/login", "/static/page.css", "/api/devices/none", "/nowhere"):
        policy = browser.ask("GET", path).headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
    assert browser.ask("GET", "/").headers["cache-control"] == "no-store"
    assert browser.ask("GET", "/static/../app.py").status == 404


def test_a_name_that_somebody_else_points_here_is_refused(site: Served) -> None:
    browser = site.entered()
    for host in ("evil.example", "evil.example:8480", "", "[", f"{HOST}.evil.example"):
        assert browser.ask("GET", "/", host=host).status == 421, host
    for host in (HOST, f"{HOST}:9", "localhost:8480", "[::1]:8480", "LOCALHOST"):
        assert browser.ask("GET", "/", host=host).status == 200, host


def test_another_site_changes_nothing(site: Served) -> None:
    browser = site.entered()
    csrf = browser.csrf()
    said = {"x_csrf_token": csrf}
    for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert browser.ask("POST", "/api/rounds/pause", "{}", **said, **headers).status == 403, headers
    assert browser.order("/api/rounds/pause", csrf="wrong").status == 403
    assert browser.ask("POST", "/api/rounds/pause", "{}").status == 403
    assert not (site.run_dir / "coordinator.db").exists()
    port = site.fleet.settings.web_port
    assert browser.ask("POST", "/api/rounds/pause", "{}", **said, origin=f"http://{HOST}:{port}").status == 200


def test_the_rounds_are_paused_and_go_on(site: Served) -> None:
    store = site.store()
    browser = site.entered()
    assert browser.order("/api/rounds/pause").status == 200
    assert pause.said(store).paused and pause.said(store).who == "an administrator on the live page"
    assert browser.order("/api/rounds/resume").status == 200
    assert not pause.said(store).paused
    assert browser.order("/api/rounds/dance").status == 404


def test_the_rounds_are_stopped_and_started(site: Served) -> None:
    browser = site.entered()
    assert browser.order("/api/rounds/start").json["error"].startswith("the rounds run already")
    assert browser.order("/api/rounds/stop").status == 200
    assert site.folder.rounds_stopped.exists() and site.again == ["again"]
    site.standing.append("stopped")
    answer = browser.order("/api/rounds/start")
    assert answer.status == 400 and "set pack and classes" in answer.json["error"]
    assert site.folder.rounds_stopped.exists()
    config = site.folder.coordinator_config
    config.write_text('pack = "p"\nclasses = ["a", "b"]\n' + config.read_text())
    assert browser.order("/api/rounds/start").status == 200
    assert not site.folder.rounds_stopped.exists() and site.again == ["again"] * 2


def test_a_board_is_let_in_and_another_refused_with_the_reason(site: Served) -> None:
    with site.fleet.desk() as desk:
        asked = [
            desk.submit(desk.issue_token(utc_now()), name, BoardKey.make().request_pem, utc_now()).id
            for name in ("pi-1", "pi-2")
        ]
    browser = site.entered()
    (first,) = browser.messages(1)
    assert {row["device"] for row in first["requests"].values()} == {"pi-1", "pi-2"}
    assert browser.order(f"/api/requests/{asked[0]}/approve").json["state"] == "approved"
    answer = browser.order(f"/api/requests/{asked[1]}/reject", {"reason": "not ours"})
    assert (answer.json["state"], answer.json["reason"]) == ("rejected", "not ours")
    assert browser.order(f"/api/requests/{asked[1]}/approve").status == 409
    assert browser.order("/api/requests/none/approve").status == 404
    assert browser.order(f"/api/requests/{asked[1]}/keep").status == 404
    with site.fleet.desk() as desk:
        assert [entry.who for entry in desk.registry.audit()][-2:] == ["an administrator on the live page"] * 2


def test_the_stream_tells_everything_once_and_then_what_changed(site: Served) -> None:
    store = site.store()
    store.keep_device(DeviceRow("pi-1", 1, 1, True, None, ""))
    browser = site.entered()
    connection = browser.connection()
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    connection.request("GET", "/api/events", headers={"cookie": cookies})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    first = answer.readline()
    assert b'"pi-1"' in first and b'"fleet":"depot"' in first
    store.keep_device(DeviceRow("pi-2", 1, 1, True, None, ""))
    assert answer.readline() == b"\n"
    second = answer.readline()
    assert b'"pi-2"' in second and b'"pi-1"' not in second and b'"fleet"' not in second
    connection.close()


def test_the_language_is_the_browsers_until_one_is_chosen(site: Served) -> None:
    browser = site.browser()
    assert "ログイン" in browser.ask("GET", "/login", accept_language="ja-JP,ja;q=0.9").text
    assert "Log in" in browser.ask("GET", "/login", accept_language="de").text
    assert "ログイン" in browser.ask("GET", "/login?language=ja", accept_language="en").text
    chosen = browser.ask("GET", "/login", accept_language="en")
    assert '<html lang="ja">' in chosen.text and chosen.headers["content-language"] == "ja"
    assert '<html lang="ja">' in browser.ask("GET", "/login?language=xx").text


def test_metrics_are_for_this_machine_and_for_who_has_a_token(site: Served) -> None:
    browser = site.browser()
    assert "rankfleet_devices 0.0" in browser.ask("GET", "/metrics").text
    assert browser.ask("GET", "/metrics", x_forwarded_for="10.0.0.1").status == 401
    assert browser.ask("GET", "/metrics", authorization="Bearer rfa_wrong").status == 401
    allowed = browser.ask("GET", "/metrics", x_forwarded_for="10.0.0.1", authorization=f"Bearer {site.token}")
    assert allowed.status == 200 and allowed.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
