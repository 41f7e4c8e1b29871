"""The installer that boards fetch, and the one line that a person pastes to start it.

The installer is a shell script in which this fleet's values stand for placeholders. The line has its checksum, so it
can be fetched before the board trusts anybody.
"""

from __future__ import annotations

import hashlib
import re

from edge_agent.wire.errors import ConfigError

NAME = "rankfleet-install.sh"
_PEM = r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----"
_URL = r"https://[A-Za-z0-9.:\[\]-]+"
_NAME = r"[A-Za-z0-9._-]+"
_PLACEHOLDER = re.compile(r"@[A-Z][A-Z_]*@")
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9a-fA-F:.]+\]")


def gateway_url(host: str, port: int) -> str:
    """Under which boards reach the enrolment service."""
    name = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(name):
        raise ConfigError(f"expected a host name or address, got {host!r}")
    return f"https://{name}:{port}"


def render(template: str, ca_pem: bytes, gateway: str, fleet: str, broker_port: int) -> bytes:
    """The installer of one fleet: `@CA@`, `@GATEWAY@`, `@FLEET@` and `@BROKER_PORT@` in the template are replaced.

    Raises:
        ConfigError: the template has other placeholders, or a value is not of the form that it should have; in a shell
            script, that matters.
    """
    values = {
        "@CA@": ca_pem.decode("ascii", "replace").strip(),
        "@GATEWAY@": gateway,
        "@FLEET@": fleet,
        "@BROKER_PORT@": str(broker_port),
    }
    for value, shape, what in (
        (values["@CA@"], _PEM, "one certificate as PEM"),
        (gateway, _URL, "a URL like https://gateway:8443"),
        (fleet, _NAME, "a fleet's name"),
    ):
        if not re.fullmatch(shape, value):
            raise ConfigError(f"the installer cannot be made: expected {what}, got {value!r}")
    found = set(_PLACEHOLDER.findall(template))
    if found != set(values):
        raise ConfigError(
            f"the installer's template must have {', '.join(sorted(values))}, got {', '.join(sorted(found)) or 'none'}"
        )
    return _PLACEHOLDER.sub(lambda match: values[match[0]], template).encode()


def pasted_line(gateway: str, installer: bytes, token: str, device: str | None = None) -> str:
    """The line for a board's terminal. curl does not check the gateway's certificate (-k): the checksum does."""
    digest = hashlib.sha256(installer).hexdigest()
    name = "" if device is None else f" --device {device}"
    return (
        f'curl -fsSk {gateway}/v1/install.sh -o {NAME} && echo "{digest}  {NAME}" | sha256sum -c - '
        f"&& sudo sh {NAME} --token {token}{name}"
    )
