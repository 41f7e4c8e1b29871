"""The settings of a fleet: `fleet.toml` in its folder. Hosts and ports are the operator's to change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import load_toml

from .authority import DEVICE_DAYS, SERVER_DAYS

PAGE = "docs/gateway.md"
Port = Annotated[int, Meta(ge=1, le=65535)]


class FleetSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fleet as its boards see it."""

    fleet: str
    """Its name, part of every topic."""
    hosts: tuple[str, ...]
    """Names and addresses under which boards reach the gateway; the first is the one that they are told."""
    broker_port: Port = 8883
    enrolment_port: Port = 8443
    device_days: Annotated[int, Meta(ge=1, le=SERVER_DAYS)] = DEVICE_DAYS
    """How long a device's certificate is valid; it is renewed long before."""
    web_host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    """Where the live page is served: over TLS on any address but loopback."""
    web_port: Port = 8480
    home_assistant: str = ""
    """The name in Home Assistant's certificate: it may read what the coordinator tells it of the boards."""


def check(settings: FleetSettings, where: str) -> FleetSettings:
    """`settings` themselves.

    Raises:
        ConfigError: they contradict each other, or name what cannot be; `where` says which file or command.
    """
    topics.check_name(settings.fleet, f"{where}: fleet")
    if settings.home_assistant:
        topics.check_name(settings.home_assistant, f"{where}: home_assistant")
    if not settings.hosts:
        raise ConfigError(f"{where}: hosts must name at least one host name or address under which boards reach it")
    ports = {name: getattr(settings, name) for name in ("broker_port", "enrolment_port", "web_port")}
    if len(set(ports.values())) < len(ports):
        raise ConfigError(f"{where}: {', '.join(ports)} must differ, got {list(ports.values())}")
    return settings


def load(path: Path) -> FleetSettings:
    """The settings in `path`.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown or out of range.
    """
    return check(load_toml(path, FleetSettings, PAGE), str(path))


def encode(settings: FleetSettings) -> bytes:
    """`settings` as the text of `fleet.toml`."""
    lines = ["# A fleet of rankfleet. After a change: rankfleet coordinator init FOLDER, then restart the gateway."]
    for name, value in msgspec.structs.asdict(settings).items():
        shown = list(value) if isinstance(value, tuple) else value
        lines.append(f"{name} = {json.dumps(shown, ensure_ascii=False)}")
    return ("\n".join(lines) + "\n").encode()
