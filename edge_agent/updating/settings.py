"""What the updater reads of the agent's configuration.

Settings that it does not know are none of its business: after a return, the file may have those of a newer release.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.wire import topics
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import load_toml


class Identity(msgspec.Struct, frozen=True):
    """PEM files of the fleet's authority and of this device; the gateway wants the same ones as the broker."""

    ca_file: Path
    certificate_file: Path
    key_file: Path


class GatewaySettings(msgspec.Struct, frozen=True):
    """Where the gateway's enrolment service is: `https://HOST:PORT`."""

    url: str


class UpdaterConfig(msgspec.Struct, frozen=True):
    """The part of an agent's configuration that updates need."""

    device: str
    state_dir: Path
    gateway: GatewaySettings
    broker: Identity


def load(path: Path) -> UpdaterConfig:
    """The configuration in `path`; relative paths in it are relative to its folder.

    Raises:
        ConfigError: the file is missing or malformed, or the device is not enrolled: a file or the gateway is not set.
    """
    config = load_toml(path, UpdaterConfig)
    topics.check_name(config.device, f"{path}: device")
    if not config.gateway.url.startswith("https://"):
        raise ConfigError(f"{path}: gateway.url: expected something like https://HOST:8443, got {config.gateway.url!r}")
    here = path.resolve().parent
    files = Identity(*(here / getattr(config.broker, name) for name in ("ca_file", "certificate_file", "key_file")))
    return msgspec.structs.replace(config, state_dir=here / config.state_dir, broker=files)
