"""Serves the live page of a simulated fleet as the gateway would, and has Chromium open it again and again.

Every time is a browser context of its own, so that nothing is cached. First paint is the browser's own
`first-contentful-paint` (Paint Timing, W3C), since the navigation began; the fleet is shown when the first page of the
table of devices is there. One repetition before those that count makes files warm.
"""

from __future__ import annotations

import random
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import msgspec

from coordinator import journal as journals
from coordinator.enrolment import admin_token
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.tls import HttpsServer
from coordinator.web.app import application
from coordinator.web.feed import Feed
from coordinator.web.parts import PageParts
from coordinator.web.reader import Reader
from coordinator.web.service import PAGE
from coordinator.web.sessions import Sessions
from edge_agent.wire.errors import ConfigError
from profiling.page.fleet import Simulated

HOST = "127.0.0.1"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 30_000
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds: the median, the quartiles and the extremes of several repetitions."""

    median_ms: float
    first_quartile_ms: float
    third_quartile_ms: float
    least_ms: float
    most_ms: float


class PageTimes(msgspec.Struct, frozen=True):
    """What was measured. `first_message_bytes` is the whole fleet, `message_bytes` the median of the changes of a
    second."""

    devices: int
    rounds: int
    repeats: int
    browser: str
    first_paint: Spread
    fleet_shown: Spread
    first_message_bytes: int
    message_bytes: int


def chromium() -> str:
    """Where Chromium is.

    Raises:
        ConfigError: there is none.
    """
    found = next((path for path in map(shutil.which, CHROMIUM) if path is not None), None)
    if found is None:
        raise ConfigError("expected Chromium on this machine: sudo apt install chromium")
    return found


def measure(simulated: Simulated, repeats: int) -> PageTimes:
    """Opens the page `repeats` times, while a tenth of those that train goes on each second.

    Raises:
        ConfigError: there is no Chromium, or no Playwright.
    """
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 (for those who measure only)
    except ImportError as error:
        raise ConfigError("the page is measured with Playwright: pip install 'rankfleet[dev]'") from error
    executable = chromium()
    simulated.write()
    token = admin_token.make()
    with served(simulated, token) as url, stirred(simulated), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        times = [_open(browser, url, token) for _ in range(repeats + 1)][1:]
        sizes = _message_sizes(browser, url, token)
        version = browser.version
        browser.close()
    paints, shown = zip(*times, strict=True)
    return PageTimes(
        simulated.devices, simulated.rounds, repeats, f"Chromium {version}", spread(paints), spread(shown), sizes[0],
        round(statistics.median(sizes[1:])),
    )  # fmt: skip


def spread(values_ms: tuple[float, ...]) -> Spread:
    """The spread of three values or more."""
    first, median, third = statistics.quantiles(values_ms, n=4, method="inclusive")
    return Spread(median, first, third, min(values_ms), max(values_ms))


@contextmanager
def served(simulated: Simulated, token: str) -> Iterator[str]:
    """The page of the simulated fleet, on a port of this machine; gives its address."""
    registry = simulated.run_dir / "enrolment.db"
    Registry(registry).close()
    feed = Feed(Reader("simulated", simulated.run_dir, lambda: Registry(registry), lambda: "running"), time.time)
    digest = admin_token.digest(token)
    parts = PageParts(
        "simulated", simulated.run_dir, feed, Sessions(lambda one: one == digest, time.monotonic),
        lambda shown: admin_token.digest(shown) == digest, _no_desk, _no_order, lambda: datetime.now(timezone.utc),
        (HOST,), False, "rankfleet-simulated",
    )  # fmt: skip
    server = HttpsServer(application(parts), None, HOST, 0, PAGE)
    server.start()
    try:
        yield f"http://{HOST}:{server.port}"
    finally:
        feed.close()
        server.stop()


@contextmanager
def stirred(simulated: Simulated) -> Iterator[None]:
    """Meanwhile devices train."""
    end = threading.Event()

    def run() -> None:
        journal, draw = journals.Journal(simulated.run_dir / journals.FILE), random.Random(simulated.seed)
        while not end.wait(1.0):
            simulated.stir(journal, draw)
        journal.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _open(browser: Any, url: str, token: str) -> tuple[float, float]:
    """Milliseconds until the first paint, and until the devices are shown."""
    context = browser.new_context()
    page = context.new_page()
    _log_in(page, url, token)
    page.goto("about:blank")
    page.goto(f"{url}/#/devices", wait_until="commit")
    page.wait_for_selector("#devices tr", timeout=PATIENCE_MS)
    shown = page.evaluate("performance.now()")
    page.wait_for_function(f"() => {PAINT}", timeout=PATIENCE_MS)
    painted = page.evaluate(PAINT)
    context.close()
    return float(painted), float(shown)


def _message_sizes(browser: Any, url: str, token: str, seconds: int = 6) -> list[int]:
    """Bytes of the first message and of those that follow it."""
    context = browser.new_context()
    page = context.new_page()
    _log_in(page, url, token)
    sizes: list[int] = page.evaluate(
        """(milliseconds) => new Promise((resolve) => {
            const sizes = [];
            const source = new EventSource('/api/events');
            source.onmessage = (event) => sizes.push(new TextEncoder().encode(event.data).length);
            setTimeout(() => { source.close(); resolve(sizes); }, milliseconds);
        })""",
        1000 * seconds,
    )
    context.close()
    return sizes


def _log_in(page: Any, url: str, token: str) -> None:
    page.goto(f"{url}/login")
    page.fill("#token", token)
    page.click("button")
    page.wait_for_selector("#main", timeout=PATIENCE_MS)


def _no_desk() -> Any:
    raise ConfigError("a simulated fleet has no desk")


def _no_order(_order: str) -> None:
    raise ConfigError("a simulated fleet takes no orders")
