"""The live page as a service of a gateway: plain on loopback, elsewhere over TLS with the fleet's certificate."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable

from coordinator import pause
from coordinator.enrolment import admin_token, services
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.opening import Fleet
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.run_folder import run_dir
from coordinator.enrolment.services import Standing
from coordinator.enrolment.tls import Called, HttpsServer, ServerFiles
from coordinator.run import DATABASE
from coordinator.store import Store
from coordinator.web.app import application
from coordinator.web.feed import Feed
from coordinator.web.parts import WHO, Order, PageParts
from coordinator.web.reader import Reader
from coordinator.web.sessions import Sessions
from edge_agent.wire.errors import ConfigError

PAGE = Called("live page", "web_port")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class LivePage:
    """The page of `fleet`. `standing` says what the process of the rounds does, `again` starts it anew as it was
    ordered."""

    name = PAGE.name

    def __init__(self, fleet: Fleet, standing: Callable[[], Standing], again: Callable[[], None]) -> None:
        self._fleet = fleet
        self._standing = standing
        self._again = again
        folder, settings = fleet.folder, fleet.settings
        self.is_secure = not is_loopback(settings.web_host)
        reader = Reader(settings.fleet, run_dir(folder), lambda: Registry(folder.database), standing)
        self._feed = Feed(reader, lambda: fleet.now().timestamp())
        files = ServerFiles(folder.server_certificate, folder.server_key, None) if self.is_secure else None
        self._server = HttpsServer(application(self._parts()), files, settings.web_host, settings.web_port, PAGE)

    @property
    def url(self) -> str:
        """Where an operator finds it."""
        one = self._fleet.settings
        host = one.web_host
        if self.is_secure and _is_any(host):
            host = one.hosts[0]
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self.is_secure else 'http'}://{shown}:{self._server.port}/"

    def start(self) -> None:
        """Returns when it listens.

        Raises:
            ConfigError: a TLS file cannot be used.
            LinkError: the port cannot be used.
        """
        self._feed.begin()
        self._server.start()

    def stop(self) -> None:
        """Ends it, and the streams of those who watch."""
        self._feed.end()
        self._server.stop()

    def reload(self) -> None:
        """As `HttpsServer.reload`."""
        self._server.reload()

    def failed(self) -> str | None:
        """Why it does not serve any more."""
        return self._server.failed()

    def _parts(self) -> PageParts:
        fleet, folder, settings = self._fleet, self._fleet.folder, self._fleet.settings
        sessions = Sessions(lambda digest: digest in admin_token.kept(folder), time.monotonic)
        return PageParts(
            fleet=settings.fleet,
            run_dir=run_dir(folder),
            feed=self._feed,
            sessions=sessions,
            is_admin=lambda token: admin_token.is_valid(folder, token),
            desk=lambda: fleet.desk(WHO),
            order=self._order,
            now=fleet.now,
            hosts=tuple(dict.fromkeys((*settings.hosts, *LOOPBACK, settings.web_host))),
            is_secure=self.is_secure,
            cookie=f"rankfleet-{settings.web_port}",
        )

    def _order(self, wanted: Order) -> None:
        """What an operator wants of the rounds."""
        if wanted in ("pause", "resume"):
            _pause(self._fleet, wanted == "pause")
            return
        _check_startable(self._fleet.folder, wanted, self._standing())
        services.order(self._fleet.folder, wanted == "start")
        self._again()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _pause(fleet: Fleet, paused: bool) -> None:
    store = Store(run_dir(fleet.folder) / DATABASE)
    try:
        pause.say(store, paused, WHO, fleet.now())
    finally:
        store.close()


def _check_startable(folder: FleetFolder, wanted: Order, standing: Standing) -> None:
    if wanted == "stop":
        return
    if standing in ("running", "over"):
        said = "run already" if standing == "running" else "are over"
        raise ConfigError(f"the rounds {said}: there is nothing to start")
    missing = services.not_set(folder)
    if missing:
        raise ConfigError(f"set {' and '.join(missing)} in {folder.coordinator_config} before the rounds are started")
