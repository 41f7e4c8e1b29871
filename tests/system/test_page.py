"""The live page in a browser, before a fleet that runs: a gateway with Mosquitto over TLS, and agents that train.

The fleet is one for all tests; each leaves it as it found it, training. With RANKFLEET_SCREENSHOTS=docs/images the
pictures of the documentation are made anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.founding import opened
from coordinator.enrolment.opening import Fleet as FleetDesk
from coordinator.run import DATABASE
from coordinator.store import Store
from coordinator.web.texts import strings
from edge_agent.sensors.board import Board
from tests.brokers import free_port, require_mosquitto
from tests.browsers import Watched, accessibility, browser, require_browser, screenshot, watched
from tests.certificates import HOST, client_files
from tests.coordinator.enrolment.fleets import BoardKey
from tests.coordinator.enrolment.gates import utc_now
from tests.gateways import founded
from tests.models import tiny_pack
from tests.system.fleet import CLASSES, NAME, NO_VARIABLES, Fleet, Process, Settings, fleet, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
DEVICES = ("pi-1", "pi-2", "pi-3", "pi-4", "pi-5")
PATIENCE_S = 120.0
PHONE = {"width": 360, "height": 740}
ROUNDS = """
[round]
rounds = 2000
expected = 5
quorum = 1
grace_s = 3.0

[ranks]
initial = 3
target = 1.0
warmup_rounds = 0
final_rounds = 1

[objectives]
devices = 5
accuracy = 0.5

[training]
batch_size = 4
local_steps = 60
max_tokens = 16
lr_head = 0.02
"""
VIEWS = ("#/", "#/devices", "#/devices/pi-1", "#/requests")


@dataclass
class Site:
    """A gateway that runs, its boards, and a browser."""

    folder: FleetFolder
    url: str
    token: str
    up: Process
    boards: Fleet
    browser: Any

    def desk(self) -> Any:
        return FleetDesk(self.folder, *opened(self.folder), None, utc_now).desk("a test")

    def asks_to_be_let_in(self, name: str) -> str:
        with self.desk() as desk:
            return str(desk.submit(desk.issue_token(utc_now()), name, BoardKey.make().request_pem, utc_now()).id)

    def closed(self) -> int:
        store = Store(self.folder.root / "run" / DATABASE, read_only=True)
        try:
            return max((number for number, _ in store.rounds()), default=0)
        finally:
            store.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_mosquitto()
    require_browser()
    root = tmp_path_factory.mktemp("page")
    folder, made = founded(
        root / "gateway", now=utc_now(), fleet=NAME, broker_port=free_port(), enrolment_port=free_port(),
        web_port=free_port(), pack=tiny_pack(), classes=CLASSES,
    )  # fmt: skip
    assert made.admin_token is not None
    config = folder.coordinator_config
    config.write_text(config.read_text().partition("[round]")[0] + ROUNDS)
    brokers = {
        name: {
            key: str(getattr(files, key))
            for files in (client_files(root / "identities" / name, made.authority, name),)
            for key in ("ca_file", "certificate_file", "key_file")
        }
        for name in DEVICES
    }
    command = ["-m", "deploy.cli.main", "coordinator", "up", str(folder.root)]
    up = Process([sys.executable, *command], "up", root / "up.log", NO_VARIABLES)
    settings = Settings(devices=DEVICES, port=made.settings.broker_port, brokers=brokers)
    try:
        wait_until(lambda: any("live page" in line for line in up.lines), PATIENCE_S, lambda: up.stderr)
        with fleet(root / "boards", settings) as boards, browser() as launched:
            boards.start_agents()
            url = f"http://{HOST}:{made.settings.web_port}"
            one = Site(folder, url, made.admin_token, up, boards, launched)
            wait_until(lambda: _begun(one), PATIENCE_S, lambda: f"{up.lines} {up.stderr}")
            yield one
    finally:
        if up.running:
            up.terminate()
            up.wait()


def _begun(site: Site) -> bool:
    return (site.folder.root / "run" / DATABASE).exists() and site.closed() >= 2


@pytest.fixture
def visitor(site: Site) -> Iterator[Watched]:
    """Somebody before the log-in. No page of a test ever asks another host for anything."""
    with watched(site.browser) as one:
        yield one
        assert one.asked and all(url.startswith((f"{site.url}/", "data:")) for url in one.asked), one.asked


@pytest.fixture
def page(site: Site, visitor: Watched) -> Any:
    """Somebody who is logged in."""
    return entered(site, visitor.page)


def entered(site: Site, page: Any) -> Any:
    page.goto(f"{site.url}/")
    page.fill("#token", site.token)
    page.press("#token", "Enter")
    page.wait_for_selector("html[data-state=live]")
    return page


def tile(page: Any, name: str) -> str:
    return str(page.locator(f"#tiles div:has(dt:text-is('{name}')) dd").inner_text())


def closed_rounds(page: Any) -> int:
    return int(tile(page, "Rounds closed").split()[0].replace(",", ""))


def row(page: Any, device: str) -> Any:
    return page.locator(f"#devices tr[data-key='{device}']")


def confirm(page: Any, yes: bool = True) -> None:
    page.wait_for_selector("dialog[open]")
    page.click("#confirm-yes" if yes else "dialog button[value=cancel]")
    page.wait_for_selector("dialog[open]", state="detached")


# Log-in


def test_a_wrong_token_is_refused_and_the_right_one_lets_in(site: Site, visitor: Watched) -> None:
    page = visitor.page
    page.goto(f"{site.url}/#/devices")
    assert page.url.startswith(f"{site.url}/login")
    page.fill("#token", "rfa_wrong")
    page.click("button")
    assert page.inner_text("[role=alert]") == "This is no admin token of this fleet."
    screenshot(page, "page-login")
    page.fill("#token", site.token)
    page.click("button")
    page.wait_for_selector("html[data-state=live]")
    cookies = page.context.cookies()
    assert cookies and all(one["httpOnly"] and one["sameSite"] == "Strict" for one in cookies)
    page.click("text=Log out")
    page.wait_for_url("**/login")
    page.goto(f"{site.url}/")
    assert page.url == f"{site.url}/login"


# What is shown


def test_it_shows_the_fleet_as_it_is_and_a_round_that_ends(site: Site, page: Any) -> None:
    page.wait_for_function("() => document.querySelector('#tiles dd').textContent === '5 of 5'")
    before = closed_rounds(page)
    assert 2 <= before <= site.closed()
    page.wait_for_function(
        "before => parseInt(document.querySelectorAll('#tiles dd')[1].textContent.replaceAll(',', '')) > before",
        arg=before,
    )
    page.locator("#rounds-details summary").click()
    store = Store(site.folder.root / "run" / DATABASE, read_only=True)
    numbers = [number for number, _ in store.rounds()]
    store.close()
    shown = page.locator("#rounds tr th").all_inner_texts()
    assert {int(text) for text in shown} <= set(numbers) and len(shown) > before
    assert page.locator("#map tr").count() == 3 and page.locator("#map tr").first.locator("td").count() == 6
    levels = page.locator("#levels tr").all_inner_texts()
    assert [text.split("\t")[0] for text in levels] == ["Devices online", "Accuracy"]
    assert page.locator(".chart canvas").count() == 4
    assert "last value" in str(page.get_attribute("#chart-loss", "aria-label"))
    page.locator("#rounds-details summary").click()
    page.evaluate("scrollTo(0, 0)")
    screenshot(page, "page-overview", whole=True)


def test_devices_are_filtered_and_sorted(site: Site, page: Any) -> None:
    page.click("nav >> text=Devices")
    assert page.locator("#devices tr").count() == 5
    assert row(page, "pi-1").locator("td").first.inner_text() == "online"
    assert "256" in row(page, "pi-1").inner_text() or "268" in row(page, "pi-1").inner_text()
    known = Board().look().temperature_c is not None
    assert ("°C" if known else "not known") in row(page, "pi-1").inner_text()
    page.click("#devices-head >> text=Device")
    assert page.locator("#devices tr th").all_inner_texts() == list(reversed(DEVICES))
    assert page.get_attribute("#devices-head th", "aria-sort") == "descending"
    page.fill("#search", "PI-3")
    assert page.locator("#devices tr th").all_inner_texts() == ["pi-3"]
    assert page.inner_text("#devices-count") == "1 of 5 devices"
    page.fill("#search", "")
    page.select_option("#show", "offline")
    assert page.locator("#devices tr").count() == 0


def test_a_device_that_dies_is_offline_within_seconds_and_comes_back(site: Site, page: Any) -> None:
    dying = [one for one in site.boards._started if one.name == "pi-5" and one.running][-1]
    page.click("nav >> text=Devices")
    assert row(page, "pi-5").locator("td").first.inner_text() == "online"
    for child in dying.children():
        child.kill()
    dying.kill()
    page.wait_for_function(
        "() => document.querySelector(\"#devices tr[data-key='pi-5'] td\").textContent === 'offline'", timeout=20_000
    )
    assert "connection" in row(page, "pi-5").locator("td.note").inner_text()
    page.click("#devices >> text=pi-5")
    page.wait_for_selector("#log tr:has-text('went offline')")
    assert page.locator("#phases tr").count() > 0
    page.click("nav >> text=Overview")
    page.wait_for_selector("#levels tr:has-text('missed')")
    site.boards.start_agent("pi-5")
    page.click("nav >> text=Devices")
    page.wait_for_function("() => document.querySelector(\"#devices tr[data-key='pi-5'] td\").textContent === 'online'")


def test_a_devices_page_has_its_phases_and_what_happened(site: Site, page: Any) -> None:
    page.goto(f"{site.url}/#/devices/pi-1")
    page.wait_for_selector("#log tr:has-text('update received')")
    phases = set(page.locator("#phases tr td:nth-child(2)").all_inner_texts())
    assert {"receive", "load", "train"} <= phases, phases
    assert page.title() == "pi-1 · depot · rankfleet"
    screenshot(page, "page-device")
    page.goto(f"{site.url}/#/devices/nobody")
    page.wait_for_selector("#problem:has-text('not spoken yet')")


# What an operator decides


def test_a_board_is_approved_and_another_refused(site: Site, page: Any) -> None:
    first, second = site.asks_to_be_let_in("pi-8"), site.asks_to_be_let_in("pi-9")
    page.wait_for_function("() => document.querySelector('#waiting-count').textContent === '2'")
    page.click("nav >> text=Enrolment")
    with site.desk() as desk:
        expected = desk.registry.request(first).fingerprint
    assert page.locator(f"#requests tr[data-key='{first}'] td").first.inner_text() == expected
    screenshot(page, "page-enrolment")
    page.click("role=button[name='Approve: pi-8']")
    assert page.inner_text("#confirm-detail") == expected
    confirm(page, yes=False)
    with site.desk() as desk:
        assert desk.registry.request(first).state == "pending"
    page.click("role=button[name='Approve: pi-8']")
    confirm(page)
    page.wait_for_selector("#announce:has-text('pi-8 is approved')", state="attached")
    page.click("role=button[name='Reject: pi-9']")
    page.fill("#reason", "not one of ours")
    confirm(page)
    page.wait_for_selector("#requests-none:visible")
    with site.desk() as desk:
        assert desk.registry.request(first).state == "approved"
        refused = desk.registry.request(second)
    assert (refused.state, refused.reason) == ("rejected", "not one of ours")


def test_the_rounds_are_paused_resumed_stopped_and_started_each_after_a_question(site: Site, page: Any) -> None:
    page.click("#pause")
    assert page.inner_text("#confirm-title") == "Pause the rounds?"
    confirm(page, yes=False)
    assert page.is_visible("#pause")
    page.click("#pause")
    confirm(page)
    page.wait_for_selector("#round-state:has-text('Paused by an administrator on the live page')")
    page.wait_for_selector("#round-progress", state="hidden")
    paused_at = site.closed()
    page.wait_for_timeout(4000)
    assert site.closed() == paused_at, "a round opened although the rounds are paused"
    page.click("#resume")
    confirm(page)
    wait_until(lambda: site.closed() > paused_at, PATIENCE_S, lambda: site.up.stderr)
    page.click("#stop")
    confirm(page)
    page.wait_for_selector("#round-state:has-text('The rounds are stopped.')")
    assert site.folder.rounds_stopped.exists()
    stopped_at = site.closed()
    page.click("#start")
    confirm(page)
    page.wait_for_selector("#stop:visible")
    wait_until(lambda: site.closed() > stopped_at, PATIENCE_S, lambda: site.up.stderr)


# For everybody


def test_the_keyboard_is_enough(site: Site, page: Any) -> None:
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "main"
    tab_to(page, "#pause")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    assert page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")
    assert page.evaluate(focused) == "pause", "the focus is where it was"
    page.goto(f"{site.url}/#/devices")
    tab_to(page, "#devices-head button")
    page.keyboard.press("Enter")
    assert page.get_attribute("#devices-head th", "aria-sort") == "descending"
    tab_to(page, "#devices a")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-view=device]:visible")
    assert page.evaluate(focused) == "device-name"


def tab_to(page: Any, selector: str, most: int = 60) -> None:
    for _ in range(most):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by the keyboard")


@pytest.mark.parametrize("language", ["en", "ja"])
def test_on_a_phone_nothing_is_wider_than_the_screen(site: Site, language: str) -> None:
    with watched(site.browser, viewport=PHONE, locale=language, is_mobile=True, has_touch=True) as one:
        page = entered(site, one.page)
        for view in VIEWS:
            page.goto(f"{site.url}/{view}")
            page.wait_for_timeout(300)
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], view
            small = page.evaluate(
                "[...document.querySelectorAll('main button')].filter(one => one.offsetParent"
                " && one.getBoundingClientRect().height < 24).map(one => one.textContent)"
            )
            assert not small, small
        page.goto(f"{site.url}/#/")
        page.wait_for_timeout(300)
        screenshot(page, f"page-phone-{language}")


def test_it_speaks_the_browsers_language_or_the_chosen_one(site: Site) -> None:
    with watched(site.browser, locale="ja-JP") as one:
        page = entered(site, one.page)
        texts = strings("ja")
        assert page.get_attribute("html", "lang") == "ja"
        assert page.locator("nav a").first.inner_text() == texts["nav.overview"]
        page.wait_for_function(
            "text => document.querySelector('#tiles dt').textContent === text", arg=texts["tile.online"]
        )
        page.click("#language")
        page.wait_for_selector("html[lang=en][data-state=live]")
        page.reload()
        page.wait_for_selector("html[lang=en][data-state=live]")
        page.click("#language")
        page.wait_for_selector("html[lang=ja][data-state=live]")


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(site: Site, scheme: str, language: str) -> None:
    site.asks_to_be_let_in(f"board-{scheme}-{language}")
    with watched(site.browser, color_scheme=scheme, locale=language) as one:
        page = one.page
        page.goto(f"{site.url}/login")
        assert accessibility(page) == []
        entered(site, page)
        back = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, back[4:-1].split(","))) < 300) == (scheme == "dark"), back
        for view in VIEWS:
            page.goto(f"{site.url}/{view}")
            page.wait_for_timeout(500)
            assert accessibility(page) == [], view
        page.goto(f"{site.url}/#/")
        page.click("#stop")
        assert accessibility(page) == []
        confirm(page, yes=False)
        page.goto(f"{site.url}/#/devices")
        if scheme == "dark":
            screenshot(page, f"page-devices-dark-{language}")


def test_a_connection_that_is_lost_is_told_and_comes_back(site: Site, page: Any) -> None:
    page.route("**/api/events", lambda route: route.abort())
    page.reload()
    page.wait_for_selector("#connection.bad:has-text('Connection lost')")
    page.unroute("**/api/events")
    page.wait_for_selector("html[data-state=live]")


def test_a_session_that_ends_elsewhere_ends_here(site: Site, page: Any) -> None:
    other = page.context.new_page()
    other.goto(f"{site.url}/")
    other.click("text=Log out")
    page.wait_for_url("**/login", timeout=20_000)
    other.close()
