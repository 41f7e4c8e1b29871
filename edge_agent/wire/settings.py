"""Settings that both sides share, and the one way to read a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .errors import ConfigError
from .mqtt import LONGEST_RETRY_S, MqttSettings, TlsSettings

T = TypeVar("T")


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the MQTT broker is and how to speak to it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=1, le=65535)] = 1883
    username: str = ""
    """Name to give to the broker; empty: the device's name."""
    password_file: Path | None = None
    """A file whose first line is the password; keep it readable by the agent's user only."""
    ca_file: Path | None = None
    """Certificate of the authority that signed the broker's (PEM); where it is set, the connection is TLS."""
    certificate_file: Path | None = None
    """Our own certificate (PEM), where the broker asks for one."""
    key_file: Path | None = None
    """Its private key (PEM); keep it readable by the agent's user only."""
    protocol: Literal["auto", "3.1.1", "5"] = "auto"
    max_packet_bytes: Annotated[int, Meta(ge=4096, le=2**20)] = 131072
    """Largest MQTT packet to send where the broker does not announce its own limit (MQTT 3.1.1)."""
    keepalive_s: Annotated[int, Meta(ge=1, le=3600)] = 30
    longest_retry_s: Annotated[float, Meta(ge=1, le=3600)] = LONGEST_RETRY_S
    """Longest delay between two attempts to connect, each drawn at random."""

    def resolve(self, folder: Path) -> BrokerSettings:
        """The same settings with files relative to `folder`."""
        names = ("password_file", "ca_file", "certificate_file", "key_file")
        files = {name: path for name in names if (path := getattr(self, name)) is not None}
        return msgspec.structs.replace(self, **{name: folder / path for name, path in files.items()})

    def password(self) -> str:
        """The password, or an empty string where none is configured.

        Raises:
            ConfigError: the password file cannot be read, or its first line is empty.
        """
        if self.password_file is None:
            return ""
        password = read_text(self.password_file, "broker.password_file").partition("\n")[0]
        if not password:
            raise ConfigError(
                f"broker.password_file: the first line of {self.password_file} is empty: put the password there"
            )
        return password


def mqtt_settings(broker: BrokerSettings, client: str) -> MqttSettings:
    """What a link needs to reach `broker` as `client`.

    Raises:
        ConfigError: the password file cannot be read.
    """
    return MqttSettings(
        host=broker.host,
        port=broker.port,
        client_id=client,
        username=broker.username or client,
        password=broker.password(),
        protocol=broker.protocol,
        keepalive_s=broker.keepalive_s,
        max_packet_bytes=broker.max_packet_bytes,
        longest_retry_s=broker.longest_retry_s,
        tls=None if broker.ca_file is None else TlsSettings(broker.ca_file, broker.certificate_file, broker.key_file),
    )


def read_text(path: Path, what: str) -> str:
    """The text of `path`.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what}: cannot read {path}: {error}") from error


def load_toml(path: Path, kind: type[T], page: str = "docs/configuration.md") -> T:
    """The configuration of type `kind` in `path`; `page` describes its settings.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown or out of range; names the setting.
    """
    return convert_toml(read_toml(path, page), kind, path, page)


def read_toml(path: Path, page: str) -> dict[str, Any]:
    """The settings in `path` as they stand there. Raises as `load_toml`, bar what is wrong with a setting."""
    text = read_text(path, "configuration")
    try:
        return msgspec.toml.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # the last two of an absurd number, or nesting
        raise ConfigError(f"{path}: {error}; see {page} for every setting") from error


def convert_toml(tree: dict[str, Any], kind: type[T], path: Path, page: str) -> T:
    """The settings `tree`, which came from `path`, as a configuration of type `kind`. Raises as `load_toml`."""
    try:
        return msgspec.convert(tree, kind, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}; see {page} for every setting") from error


def _decode_path(kind: type, value: Any) -> Any:
    """For msgspec, which knows no paths; its own errors name the setting."""
    if not isinstance(value, str):
        raise TypeError(f"Expected a path, got `{type(value).__name__}`")
    if "\0" in value:
        raise ValueError("Expected a path, got text with a zero byte")
    return kind(value)
