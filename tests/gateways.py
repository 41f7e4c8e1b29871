"""A gateway as `rankfleet coordinator init` makes it, with a real Mosquitto over TLS, and devices with certificates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cryptography import x509

from coordinator.enrolment.authority import Authority, Pair
from coordinator.enrolment.broker_config import installed
from coordinator.enrolment.fleet import FleetSettings
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.founding import Founded, Wish, found
from coordinator.enrolment.services import Broker
from edge_agent.wire.link import Connected, Disconnected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.tls import TlsSettings
from tests.brokers import free_port, require_mosquitto, wait_for
from tests.certificates import HOST, NOW, store

FLEET = "depot"
UP = ("rankfleet", "coordinator", "up", "FOLDER")


def founded(root: Path, *, now: datetime = NOW, **changes: Any) -> tuple[FleetFolder, Founded]:
    """A fleet in `root`, or the same again."""
    require_mosquitto()
    folder = FleetFolder(root)
    wish = Wish(**{"fleet": FLEET, "hosts": (HOST,), **changes})
    return folder, found(folder, wish, installed(), UP, now)


@dataclass
class Gateway:
    """A broker that runs, and links to it that are closed at the end."""

    folder: FleetFolder
    settings: FleetSettings
    authority: Authority
    broker: Broker
    links: list[MqttLink] = field(default_factory=list)

    def tls(self, name: str, now: datetime = NOW, days: float = 90, file: str = "") -> TlsSettings:
        """The files of a device with a certificate of this name."""
        return self.stored(self.authority.client(name, now, days), file or name)

    def stored(self, pair: Pair, name: str) -> TlsSettings:
        certificate, key = store(self.folder.root / "devices", name, pair)
        return TlsSettings(self.folder.ca_certificate, certificate, key)

    def link(self, tls: TlsSettings | None, *topics: str, client: str = "device", **changes: Any) -> MqttLink:
        made = MqttSettings(
            HOST,
            self.settings.broker_port,
            client,
            client,
            "",
            tls=tls,
            first_retry_s=0.02,
            longest_retry_s=0.2,
            **changes,
        )
        self.links.append(MqttLink(made, topics))
        return self.links[-1]

    def connected(self, tls: TlsSettings, *topics: str, **changes: Any) -> MqttLink:
        link = self.link(tls, *topics, **changes)
        wait_for(link, Connected)
        return link

    def close(self) -> None:
        """Ends all links."""
        while self.links:
            self.links.pop().close()

    def refused(self, tls: TlsSettings | None, **changes: Any) -> str:
        """Why the broker does not take a connection."""
        link = self.link(tls, **changes)
        gone = wait_for(link, Disconnected)
        link.close()
        return gone.reason


def serial_of(tls: TlsSettings) -> int:
    """Of the certificate in a device's file."""
    assert tls.certificate_file is not None
    return x509.load_pem_x509_certificate(tls.certificate_file.read_bytes()).serial_number


@contextlib.contextmanager
def gateway(root: Path, home_assistant: str = "") -> Iterator[Gateway]:
    """A founded fleet whose broker listens; `home_assistant` is that setting of the fleet."""
    folder, made = founded(root, broker_port=free_port())
    if home_assistant:
        text = folder.settings.read_text().replace('home_assistant = ""', f'home_assistant = "{home_assistant}"')
        folder.settings.write_text(text)
        _, made = founded(root)
    broker = Broker(folder, made.settings, installed())
    broker.start()
    one = Gateway(folder, made.settings, made.authority, broker)
    try:
        yield one
    finally:
        one.close()
        broker.stop()
