"""Makes a fleet's gateway, and mends it: what is whole stays as it is, so that it may be done again at any time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import read_toml
from edge_agent.wire.topics import COORDINATOR

from . import admin_token, certificates, fleet, unit
from .authority import Authority, Pair
from .broker_config import Mosquitto, access_list, configuration
from .fleet import FleetSettings
from .folder import PUBLIC_FILE, FleetFolder, read

LOOPBACK = ("localhost", "127.0.0.1")
"""The coordinator reaches the broker so, and the operator the enrolment service."""
RENEW = timedelta(days=60)
"""A certificate of the gateway's own is renewed when it has no longer than this."""


@dataclass(frozen=True)
class Wish:
    """What the operator asks for; None and empty: as it is, or the default."""

    fleet: str | None = None
    hosts: tuple[str, ...] = ()
    pack: Path | None = None
    classes: tuple[str, ...] = ()
    broker_port: int | None = None
    enrolment_port: int | None = None
    web_port: int | None = None


@dataclass(frozen=True)
class Founded:
    """A gateway that is whole: its settings, what was done for that, and its first admin token where that is new."""

    settings: FleetSettings
    authority: Authority
    done: tuple[str, ...]
    admin_token: str | None


def found(folder: FleetFolder, wish: Wish, broker: Mosquitto, up: Sequence[str], now: datetime) -> Founded:
    """Makes what is missing in `folder`, and renews what no longer fits. `up` is the command that runs the gateway.

    Raises:
        ConfigError: the wish contradicts itself or what is there, or something of the fleet was lost that cannot be
            made again.
        StoreError: the folder cannot be written.
    """
    settings, done = _settings(folder, wish)
    folder.make()
    if done:
        folder.write(folder.settings, fleet.encode(settings), PUBLIC_FILE)
    authority, said = _authority(folder, settings, now)
    done += said
    done += mend(folder, settings, authority, broker, now)
    done += _configuration(folder, settings, wish)
    body = unit.text(folder, settings.fleet, folder.owner, up).encode()
    done += _written(folder, folder.unit, body, "the systemd unit", PUBLIC_FILE)
    token = None
    if not admin_token.kept(folder):
        token = admin_token.make()
        admin_token.keep(folder, token)
        done += ["made the first admin token"]
    return Founded(settings, authority, tuple(done), token)


def opened(folder: FleetFolder) -> tuple[FleetSettings, Authority]:
    """Settings and authority of a fleet that was founded.

    Raises:
        ConfigError: `folder` holds none, or it is damaged.
    """
    certificate, key = read(folder.ca_certificate), read(folder.ca_key)
    if certificate is None or key is None:
        raise ConfigError(
            f"{folder.root} holds no fleet: make one with `rankfleet coordinator init {folder.root} --fleet NAME "
            "--host HOST`, or restore its authority folder from a backup"
        )
    return fleet.load(folder.settings), Authority.load(Pair(key, certificate))


def mend(
    folder: FleetFolder, settings: FleetSettings, authority: Authority, broker: Mosquitto, now: datetime
) -> list[str]:
    """Whatever the gateway makes of its settings: certificates of its own, the lists, the broker's configuration."""
    hosts = tuple(dict.fromkeys((*settings.hosts, *LOOPBACK)))
    done = _certificates(folder, authority, hosts, now)
    if read(folder.revoked) is None:
        if folder.database.exists():
            raise ConfigError(f"{folder.revoked} is missing although boards are enrolled: restore it from a backup")
        folder.write(folder.revoked, authority.revocation_list((), now))
        done.append("made an empty list of revoked certificates")
    if read(folder.revoked_devices) is None:
        folder.write(folder.revoked_devices, b"")
    text = configuration(folder, settings, folder.owner, broker)
    done += _written(
        folder, folder.acl, access_list(settings.fleet, settings.home_assistant).encode(), "the broker's access list"
    )
    done += _written(folder, folder.mosquitto_conf, text.encode(), "the broker's configuration")
    return done


def _settings(folder: FleetFolder, wish: Wish) -> tuple[FleetSettings, list[str]]:
    changes = {
        name: value
        for name, value in (
            ("hosts", wish.hosts),
            ("broker_port", wish.broker_port),
            ("enrolment_port", wish.enrolment_port),
            ("web_port", wish.web_port),
        )
        if value
    }
    if not folder.settings.exists():
        if wish.fleet is None or not wish.hosts:
            raise ConfigError(
                f"{folder.root} holds no fleet yet: give --fleet NAME, and --host with each name or address under "
                "which boards reach this gateway"
            )
        made = fleet.check(FleetSettings(wish.fleet, **changes), "init")  # type: ignore[arg-type]
        return made, [f"founded the fleet {made.fleet}"]
    before = fleet.load(folder.settings)
    if wish.fleet not in (None, before.fleet):
        raise ConfigError(
            f"{folder.root} holds the fleet {before.fleet}, whose boards know it by that name: choose another folder "
            f"for {wish.fleet}"
        )
    after = fleet.check(msgspec.structs.replace(before, **changes), "init")
    return after, [] if after == before else [f"changed {folder.settings}"]


def _authority(folder: FleetFolder, settings: FleetSettings, now: datetime) -> tuple[Authority, list[str]]:
    """Boards trust the one that signed them: it is made once, and never again."""
    certificate, key = read(folder.ca_certificate), read(folder.ca_key)
    if certificate is not None and key is not None:
        return Authority.load(Pair(key, certificate)), []
    if certificate is not None or folder.server_certificate.exists() or folder.database.exists():
        lost = folder.ca_key if key is None else folder.ca_certificate
        raise ConfigError(f"{lost} is missing: restore {lost.parent} from a backup; another authority is another fleet")
    authority = Authority.create(settings.fleet, now)
    pair = authority.pair()
    folder.write(folder.ca_key, pair.key_pem)
    folder.write(folder.ca_certificate, pair.certificate_pem, PUBLIC_FILE)
    return authority, ["made the fleet's certificate authority"]


def _certificates(folder: FleetFolder, authority: Authority, hosts: tuple[str, ...], now: datetime) -> list[str]:
    done = []
    ca = x509.load_pem_x509_certificate(authority.certificate_pem)
    server = _pair(folder.server_key, folder.server_certificate)
    why = certificates.unfit(server, ca, hosts, now + RENEW)
    if why is not None:
        _keep(folder, folder.server_key, folder.server_certificate, authority.server(hosts, now))
        done.append(f"made the server's certificate for {', '.join(hosts)}: {why}")
    own = _pair(folder.coordinator_key, folder.coordinator_certificate)
    why = certificates.unfit(own, ca, None, now + RENEW)
    if why is not None:
        _keep(folder, folder.coordinator_key, folder.coordinator_certificate, authority.client(COORDINATOR, now))
        done.append(f"made the coordinator's own certificate: {why}")
    return done


def _pair(key: Path, certificate: Path) -> Pair | None:
    key_pem, certificate_pem = read(key), read(certificate)
    return None if key_pem is None or certificate_pem is None else Pair(key_pem, certificate_pem)


def _keep(folder: FleetFolder, key: Path, certificate: Path, pair: Pair) -> None:
    folder.write(key, pair.key_pem)
    folder.write(certificate, pair.certificate_pem, PUBLIC_FILE)


def _written(folder: FleetFolder, path: Path, body: bytes, what: str, mode: int = 0o600) -> list[str]:
    before = read(path)
    if before == body:
        return []
    folder.write(path, body, mode)
    return [f"{'wrote' if before is None else 'renewed'} {what}, {path}"]


def _configuration(folder: FleetFolder, settings: FleetSettings, wish: Wish) -> list[str]:
    """The rounds' configuration: written once, the operator's from then on."""
    path = folder.coordinator_config
    if path.exists():
        if wish.pack is not None or wish.classes:
            return [f"left {path} as it is: set pack and classes there"]
        port = read_toml(path, "docs/configuration.md").get("broker", {}).get("port")
        return [] if port == settings.broker_port else [f"left {path} as it is: its broker.port is {port}"]
    folder.write(path, _rounds_toml(folder, settings, wish).encode(), PUBLIC_FILE)
    return [f"wrote the configuration of the rounds, {path}"]


def _rounds_toml(folder: FleetFolder, settings: FleetSettings, wish: Wish) -> str:
    pack = '# pack = "packs/my-model"' if wish.pack is None else f"pack = {_quoted(str(wish.pack.resolve()))}"
    classes = '# classes = ["first", "second"]'
    if wish.classes:
        classes = f"classes = [{', '.join(map(_quoted, wish.classes))}]"
    here = folder.root

    def relative(path: Path) -> str:
        return _quoted(str(path.relative_to(here)))

    return f"""\
# The rounds of the fleet {settings.fleet}: every setting is in docs/configuration.md. This file is yours, and is
# never written again. The rounds begin when pack (see `rankfleet pack build`) and classes are set.
fleet = {_quoted(settings.fleet)}
{pack}
{classes}
run_dir = "run"
revoked_file = {relative(folder.revoked_devices)}

[broker]
host = "127.0.0.1"
port = {settings.broker_port}
ca_file = {relative(folder.ca_certificate)}
certificate_file = {relative(folder.coordinator_certificate)}
key_file = {relative(folder.coordinator_key)}

[round]
# Devices to wait for before the first round, and the fewest updates that make a round.
expected = 1
quorum = 1
"""


def _quoted(text: str) -> str:
    """A TOML string: as in JSON, but without surrogate pairs and with DEL escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
