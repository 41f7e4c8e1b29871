"""The broker of an enrolled fleet: a Mosquitto that lets in certificates of the fleet's authority and nothing else.

A client's name is the common name of its certificate, whatever it says itself, and so is its client identifier. One
pattern gives it the topics below that name. Mosquitto 2.1 has access lists in a plugin; its `acl_file` goes with 3.0.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from coordinator.home_assistant import BOARDS, PREFIX
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.mqtt import DEFAULT_PACKET_BYTES
from edge_agent.wire.topics import COORDINATOR, ROOT

from .fleet import FleetSettings
from .folder import FleetFolder

OLDEST = (2, 0)
PLUGINS_SINCE = (2, 1)
PLUGINS_ONLY = (3, 0)
QUEUED_MESSAGES = 1000
QUEUED_BYTES = 16 * 2**20
"""What may wait for one client that is slow or away: more than it ever asks for at once."""
IN_FLIGHT_MESSAGES = 20
VERSION_TIMEOUT_S = 10.0

_VERSION = re.compile(r"^mosquitto version (\d+)\.(\d+)", re.MULTILINE)
_ACL_PLUGIN = "mosquitto_acl_file.so"
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
_INSTALL = "an enrolled fleet needs Mosquitto 2.0 or newer as its broker: sudo apt install mosquitto"


@dataclass(frozen=True)
class Mosquitto:
    """The installed broker. `acl_plugin` is where its access lists are a plugin, and that was found."""

    binary: Path
    version: tuple[int, int]
    acl_plugin: Path | None = None


def installed() -> Mosquitto:
    """The Mosquitto of this system.

    Raises:
        ConfigError: there is none, or one that is too old; says how to install it.
    """
    binary = Path(shutil.which("mosquitto") or "/usr/sbin/mosquitto")  # which an ordinary user's PATH lacks on Debian
    try:
        done = subprocess.run([binary, "-h"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{binary} cannot be run ({error}); {_INSTALL}") from error
    version = parse_version(done.stdout + done.stderr)
    plugin = _acl_plugin(binary) if version >= PLUGINS_SINCE else None
    if plugin is None and version >= PLUGINS_ONLY:
        raise ConfigError(f"the plugin {_ACL_PLUGIN} of {binary} was not found, without which it has no access lists")
    return Mosquitto(binary, version, plugin)


def parse_version(said: str) -> tuple[int, int]:
    """Major and minor version in what `mosquitto -h` says.

    Raises:
        ConfigError: it says none, or one that is too old.
    """
    found = _VERSION.search(said)
    if found is None:
        raise ConfigError(f"mosquitto -h tells no version but {said[:80]!r}; {_INSTALL}")
    version = int(found[1]), int(found[2])
    if version < OLDEST:
        raise ConfigError(f"Mosquitto {found[1]}.{found[2]} is too old; {_INSTALL}")
    return version


def _acl_plugin(binary: Path) -> Path | None:
    folders = [*map(Path, _LIBRARIES), binary.resolve().parent.parent / "lib"]
    for folder in folders:
        for pattern in (_ACL_PLUGIN, f"*/{_ACL_PLUGIN}", f"*/mosquitto/{_ACL_PLUGIN}"):
            for path in sorted(folder.glob(pattern)):
                return path
    return None


def access_list(fleet: str, home_assistant: str = "") -> str:
    """The ACL: the coordinator has the whole fleet, each device what is below its own name. The coordinator alone tells
    Home Assistant of boards, which reads it under the name `home_assistant`, if it has one."""
    coordinator, reader = "", ""
    if home_assistant:
        coordinator = f"topic write {PREFIX}/#\n"
        reader = (
            f"user {home_assistant}\ntopic read {PREFIX}/#\ntopic readwrite {PREFIX}/status\n"
            f"topic read {ROOT}/{fleet}/{COORDINATOR}/{BOARDS}/#\n\n"
        )
    return (
        f"user {COORDINATOR}\ntopic readwrite {ROOT}/{fleet}/#\n{coordinator}\n{reader}"
        f"# each device its own topics: %u is the name in its certificate\npattern readwrite {ROOT}/{fleet}/%u/#\n"
    )


def configuration(folder: FleetFolder, settings: FleetSettings, user: str, broker: Mosquitto) -> str:
    """The text of `mosquitto.conf`; `user` is who it becomes where root starts it.

    Raises:
        ConfigError: the folder's path cannot stand in it.
    """
    _check_path(folder.root)
    lines = [
        "# Written by `rankfleet coordinator`, anew at every start of the gateway: changes are lost.",
        f"user {user}",
        f"pid_file {folder.broker_pid}",
        "log_dest stderr",
        "log_timestamp false",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
        "connection_messages true",
        "",
        f"max_packet_size {DEFAULT_PACKET_BYTES}",
        f"max_queued_messages {QUEUED_MESSAGES}",
        f"max_queued_bytes {QUEUED_BYTES}",
        f"max_inflight_messages {IN_FLIGHT_MESSAGES}",
        f"retain_available {'true' if settings.home_assistant else 'false'}",
        "persistent_client_expiration 1d",
        "persistence true",
        f"persistence_location {folder.broker_data}/",
        "autosave_interval 60",
        "",
        "allow_anonymous false",
        *_access_lines(folder, broker),
        "",
        f"listener {settings.broker_port}",
        f"cafile {folder.ca_certificate}",
        f"certfile {folder.server_certificate}",
        f"keyfile {folder.server_key}",
        f"crlfile {folder.revoked}",
        "tls_version tlsv1.2",
        "ciphers ECDHE+AESGCM:ECDHE+CHACHA20",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
    ]
    return "\n".join(lines) + "\n"


def _access_lines(folder: FleetFolder, broker: Mosquitto) -> tuple[str, ...]:
    if broker.acl_plugin is None:
        return (f"acl_file {folder.acl}",)
    return f"global_plugin {broker.acl_plugin}", f"plugin_opt_acl_file {folder.acl}"


def _check_path(root: Path) -> None:
    if not root.is_absolute() or any(character < " " for character in str(root)):
        raise ConfigError(
            f"expected an absolute path without control characters for the fleet folder, got {str(root)!r}"
        )
