"""Opens the desk of a fleet folder, and makes the service that boards reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from coordinator.enrolment import admin_token, installer
from coordinator.enrolment.authority import Authority
from coordinator.enrolment.desk import Desk
from coordinator.enrolment.fleet import FleetSettings
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.parts import Parts, ReleaseFor, TakeReport, no_release, no_report
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.service import application
from coordinator.enrolment.shelf import Shelf
from coordinator.enrolment.tls import HttpsServer, ServerFiles, everywhere
from coordinator.enrolment.withdrawal import FolderBroker

SERVICE = "the enrolment service"


@dataclass(frozen=True)
class Fleet:
    """A fleet folder that was opened. `template` is the text of the installer with its placeholders; `now` the date."""

    folder: FleetFolder
    settings: FleetSettings
    authority: Authority
    template: str
    now: Callable[[], datetime]

    @property
    def url(self) -> str:
        """Under which boards reach the service."""
        return installer.gateway_url(self.settings.hosts[0], self.settings.enrolment_port)

    def installer(self) -> bytes:
        """The installer of this fleet. Raises as `installer.render`."""
        one, ca_pem = self.settings, self.authority.certificate_pem
        return installer.render(self.template, ca_pem, self.url, one.fleet, one.broker_port)

    def line(self, token: str, device: str | None) -> str:
        """The line to paste on a board. Raises as `installer`."""
        return installer.pasted_line(self.url, self.installer(), token, device)

    @contextmanager
    def desk(self, who: str = SERVICE) -> Iterator[Desk]:
        """The desk, for one thread; `who` stands in the audit trail."""
        registry = Registry(self.folder.database)
        try:
            broker = FolderBroker(self.folder, self.authority, self.now)
            yield Desk(registry, self.authority, broker, who, self.settings.device_days)
        finally:
            registry.close()


def enrolment_service(
    fleet: Fleet,
    *,
    release_for: ReleaseFor = no_release,
    take_report: TakeReport = no_report,
    host: str | None = None,
) -> HttpsServer:
    """The service of a fleet at `host`, or at every address of this system, to be started. Start it when the broker
    runs: what was withdrawn while neither did is told to the broker here."""
    with fleet.desk() as desk:
        desk.publish(fleet.now())
    folder = fleet.folder
    parts = Parts(
        fleet.desk,
        Shelf(folder.releases),
        fleet.installer(),
        fleet.line,
        lambda token: admin_token.is_valid(folder, token),
        fleet.now,
        release_for,
        take_report,
    )
    files = ServerFiles(folder.server_certificate, folder.server_key, folder.ca_certificate)
    return HttpsServer(application(parts), files, host or everywhere(), fleet.settings.enrolment_port)
