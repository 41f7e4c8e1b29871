"""A live page that is served, and a browser that is nothing but its cookies."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from coordinator.config import CoordinatorConfig, ObjectiveSettings, RoundSettings, encode
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.opening import Fleet
from coordinator.enrolment.services import Standing
from coordinator.run import DATABASE
from coordinator.store import Store
from coordinator.web.service import LivePage
from tests.brokers import free_port
from tests.coordinator.enrolment.gates import utc_now
from tests.gateways import founded
from tests.models import tiny_pack
from tests.runs import CLASSES, FLEET

HOST = "127.0.0.1"


@dataclass
class Answer:
    status: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Browser:
    """`context` where it speaks TLS. What it is told to keep it sends along, as long as the cookie lives."""

    port: int
    context: ssl.SSLContext | None = None
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)

    def connection(self) -> http.client.HTTPConnection:
        if self.context is None:
            return http.client.HTTPConnection(HOST, self.port, timeout=20)
        return http.client.HTTPSConnection(HOST, self.port, timeout=20, context=self.context)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> Answer:
        connection = self.connection()
        try:
            connection.request(method, path, body, self._headers(headers))
            answer = connection.getresponse()
            self._keep(answer.headers.get_all("set-cookie") or [])
            return Answer(answer.status, answer.read().decode(), answer.headers)
        finally:
            connection.close()

    def form(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        return self.ask("POST", path, urlencode(fields), content_type="application/x-www-form-urlencoded", **headers)

    def log_in(self, token: str) -> Answer:
        shown = self.ask("GET", "/login").text
        return self.form("/login", {"csrf": hidden(shown), "token": token})

    def csrf(self) -> str:
        found = re.search(r'name="csrf" content="([^"]+)"', self.ask("GET", "/").text)
        assert found is not None
        return found[1]

    def order(self, path: str, body: Any = None, csrf: str | None = None) -> Answer:
        shown = self.csrf() if csrf is None else csrf
        return self.ask("POST", path, json.dumps(body or {}), x_csrf_token=shown, content_type="application/json")

    def messages(self, count: int) -> list[Any]:
        """The first messages of the stream."""
        connection = self.connection()
        try:
            connection.request("GET", "/api/events", headers=self._headers({}))
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            found: list[Any] = []
            while len(found) < count:
                line = answer.readline().decode()
                assert line, "the stream ended"
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
            return found
        finally:
            connection.close()

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        named = {name.replace("_", "-"): value for name, value in more.items()}
        return {**({"cookie": cookies} if cookies else {}), **named}

    def _keep(self, told: list[str]) -> None:
        self.set_cookies += told
        for one in told:
            name, _, value = one.partition(";")[0].partition("=")
            if "max-age=0" in one.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value


@dataclass
class Served:
    """A fleet's page on a port of its own; `standing` is what the rounds do, `again` has one for each start."""

    folder: FleetFolder
    token: str
    page: LivePage
    fleet: Fleet
    standing: list[Standing]
    again: list[str]

    @property
    def run_dir(self) -> Path:
        return self.folder.root / "run"

    def browser(self, context: ssl.SSLContext | None = None) -> Browser:
        return Browser(self.fleet.settings.web_port, context)

    def entered(self) -> Browser:
        browser = self.browser()
        assert browser.log_in(self.token).status == 303
        return browser

    def store(self) -> Store:
        """The database of a run that has begun."""
        return begin_run(self.run_dir)


def begin_run(run_dir: Path, rounds: int = 4, **objectives: Any) -> Store:
    config = CoordinatorConfig(
        FLEET, tiny_pack(), CLASSES, run_dir, round=RoundSettings(rounds=rounds, deadline_s=600.0),
        objectives=ObjectiveSettings(**objectives),
    )  # fmt: skip
    store = Store(run_dir / DATABASE)
    store.put(config=encode(config))
    return store


@contextlib.contextmanager
def served(root: Path, web_host: str | None = None) -> Iterator[Served]:
    folder, made = founded(root, web_port=free_port())
    assert made.admin_token is not None
    settings = made.settings
    if web_host is not None:
        text = folder.settings.read_text().replace('web_host = "127.0.0.1"', f'web_host = "{web_host}"')
        folder.settings.write_text(text)
        from coordinator.enrolment import fleet as fleets  # noqa: PLC0415

        settings = fleets.load(folder.settings)
    standing: list[Standing] = ["running"]
    again: list[str] = []
    fleet = Fleet(folder, settings, made.authority, "", utc_now)
    page = LivePage(fleet, lambda: standing[-1], lambda: again.append("again"))
    page.start()
    try:
        yield Served(folder, made.admin_token, page, fleet, standing, again)
    finally:
        page.stop()


def hidden(form: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', form)
    assert found is not None, form
    return found[1]
