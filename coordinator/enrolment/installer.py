"""The installer that boards fetch, and the one line that a person pastes to start it.

The installer is a shell script in which this fleet's values stand for placeholders. The line has its checksum, so it
can be fetched before the board trusts anybody.
"""

from __future__ import annotations

import hashlib
import re

from edge_agent.wire.errors import ConfigError

NAME = "rankfleet-install.sh"
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
        ConfigError: one of the first three is missing from the template, or it has another one.
    """
    values = {"@CA@": ca_pem.decode("ascii").strip(), "@GATEWAY@": gateway, "@FLEET@": fleet}
    found, needed = set(_PLACEHOLDER.findall(template)), set(values)
    values["@BROKER_PORT@"] = str(broker_port)
    if not needed <= found <= set(values):
        raise ConfigError(
            f"the installer's template must have {', '.join(sorted(needed))}, got {', '.join(sorted(found)) or 'none'}"
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
