"""What a fleet's folder says to an installer: who signs, where the gateway is, and the fleet's name."""

from __future__ import annotations

from pathlib import Path

import msgspec

from deploy.board.installer import Fleet
from edge_agent.wire.settings import load_toml, read_text

RELEASES = "releases"


class _Settings(msgspec.Struct, frozen=True):
    """The part of `fleet.toml` that boards must know."""

    fleet: str
    hosts: tuple[str, ...]
    broker_port: int = 8883
    enrolment_port: int = 8443


def load(folder: Path) -> Fleet:
    """The fleet in `folder`, made by 'rankfleet coordinator init'.

    Raises:
        ConfigError: it is no fleet's folder, or cannot be read.
    """
    settings = load_toml(folder / "fleet.toml", _Settings)
    authority = read_text(folder / "authority" / "ca.pem", "the fleet's CA certificate")
    host = settings.hosts[0]
    gateway = f"https://{f'[{host}]' if ':' in host else host}:{settings.enrolment_port}"
    return Fleet(authority, gateway, settings.fleet, settings.broker_port)
