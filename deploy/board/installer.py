"""The installer of one fleet: the script in install.sh with the fleet's CA, gateway and name in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_agent.wire.errors import ConfigError

INSTALLER = "install.sh"
TEMPLATE = Path(__file__).with_name(INSTALLER)
_URL = re.compile(r"https://[A-Za-z0-9.:\[\]-]+")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


@dataclass(frozen=True)
class Fleet:
    """What an installer must know: the CA certificate (PEM), the URL of the gateway, the fleet, the broker's port."""

    ca_pem: str
    gateway: str
    name: str
    broker_port: int = 8883


def render(fleet: Fleet) -> str:
    """The script for `fleet`.

    Raises:
        ConfigError: a value is not of the form that it should have; in a shell script, that matters.
    """
    for value, shape, what in (
        (fleet.ca_pem, _PEM, "one certificate as PEM"),
        (fleet.gateway, _URL, "a URL like https://gateway:8443"),
        (fleet.name, _NAME, "a fleet's name"),
    ):
        if not shape.fullmatch(value):
            raise ConfigError(f"the installer cannot be made: expected {what}, got {value!r}")
    values = {"CA": fleet.ca_pem.strip(), "GATEWAY": fleet.gateway, "FLEET": fleet.name}
    text = TEMPLATE.read_text(encoding="utf-8").replace("@BROKER_PORT@", str(fleet.broker_port))
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text
