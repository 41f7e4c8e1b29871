"""A gateway that is made, and made again: what is whole stays, what is missing or no longer fits is made anew."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.config import load
from coordinator.enrolment import admin_token
from coordinator.enrolment.authority import SERVER_DAYS
from coordinator.enrolment.certificates import names_of
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.founding import opened
from edge_agent.wire.errors import ConfigError
from tests.certificates import HOST, NOW
from tests.gateways import FLEET, founded

SECRET = {"ca.key", "server.key", "coordinator.key", "admin-tokens", "mosquitto.conf", "acl", "revoked.pem"}


def contents(folder: FleetFolder) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mode & 0o777) for path in folder.root.rglob("*") if path.is_file()}


def test_everything_is_made_once_and_a_second_time_changes_nothing(tmp_path: Path) -> None:
    folder, first = founded(tmp_path / "fleet", hosts=("gw.local", "10.0.0.1"))
    assert first.admin_token is not None and admin_token.is_valid(folder, first.admin_token)
    made = contents(folder)
    assert {path.name for path, (_, mode) in made.items() if mode == 0o600} >= SECRET
    assert all(mode in (0o600, 0o644) for _, mode in made.values())
    assert not any(first.admin_token.encode() in body for body, _ in made.values())
    _, second = founded(folder.root, fleet=None, hosts=(), now=NOW + timedelta(days=100))
    assert (second.done, second.admin_token) == ((), None)
    assert contents(folder) == made
    assert second.settings == first.settings


def test_boards_and_the_gateway_itself_reach_the_server_by_name(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path, hosts=("gw.local", "10.0.0.1"))
    server = x509.load_pem_x509_certificate(folder.server_certificate.read_bytes())
    assert names_of(server) == {"gw.local", "10.0.0.1", "localhost", "127.0.0.1"}


def test_other_hosts_get_another_server_certificate_and_nothing_else(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    before = contents(folder)
    _, again = founded(tmp_path, hosts=("gw.local",))
    changed = {path for path, content in contents(folder).items() if before[path] != content}
    assert changed == {folder.server_certificate, folder.server_key, folder.settings}
    assert any(
        "gw.local, localhost, 127.0.0.1: the one that was there was for other hosts" in line for line in again.done
    )


def test_an_operators_edit_of_the_hosts_counts(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    folder.settings.write_text(folder.settings.read_text().replace(HOST, "gw.example"))
    _, again = founded(tmp_path, fleet=None, hosts=())
    assert len(again.done) == 1 and "gw.example" in again.done[0]


def test_what_is_about_to_end_is_renewed_and_the_authority_is_not(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    authority = folder.ca_certificate.read_bytes()
    _, again = founded(tmp_path, now=NOW + timedelta(days=SERVER_DAYS - 59))
    assert ["ends on" in line for line in again.done] == [True, True]
    assert folder.ca_certificate.read_bytes() == authority
    assert founded(tmp_path, now=NOW + timedelta(days=SERVER_DAYS - 59))[1].done == ()


@pytest.mark.parametrize(
    "lost",
    ["tls/server.key", "tls/coordinator.pem", "mosquitto/acl", "mosquitto/mosquitto.conf", "tls/revoked.pem",
     "coordinator.toml", "admin-tokens", "systemd/rankfleet-coordinator.service"],
)  # fmt: skip
def test_what_is_missing_is_made_anew_and_named(tmp_path: Path, lost: str) -> None:
    folder, _ = founded(tmp_path)
    (tmp_path / lost).unlink()
    _, again = founded(tmp_path)
    assert len(again.done) == 1 and (tmp_path / lost).exists()
    assert (again.admin_token is not None) == (lost == "admin-tokens")
    assert opened(folder)[0] == again.settings


@pytest.mark.parametrize("lost", ["ca.key", "ca.pem"])
def test_an_authority_is_never_made_twice(tmp_path: Path, lost: str) -> None:
    folder, _ = founded(tmp_path)
    folder.ca_key.with_name(lost).unlink()
    before = contents(folder)
    with pytest.raises(ConfigError, match=f"{lost} is missing: restore .* from a backup"):
        founded(tmp_path)
    assert contents(folder) == before
    shutil.rmtree(folder.ca_key.parent)
    with pytest.raises(ConfigError, match="restore"):
        founded(tmp_path)


def test_a_lost_list_of_revoked_certificates_is_not_made_empty_where_boards_are_enrolled(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    sqlite3.connect(folder.database).close()
    folder.database.touch()
    folder.revoked.unlink()
    with pytest.raises(ConfigError, match=r"revoked\.pem is missing although boards are enrolled"):
        founded(tmp_path)


def test_one_that_died_on_its_way_is_finished_by_the_next(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    whole = set(contents(folder))
    for path in whole - {folder.settings, folder.ca_key}:
        path.unlink()
    _, again = founded(tmp_path)
    assert set(contents(folder)) == whole and again.admin_token is not None


def test_the_rounds_configuration_is_the_operators(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path)
    edited = folder.coordinator_config.read_text().replace("expected = 1", "expected = 20 # mine")
    folder.coordinator_config.write_text(edited)
    _, again = founded(tmp_path, pack=tmp_path / "pack", classes=("a", "b"))
    assert again.done == (f"left {folder.coordinator_config} as it is: set pack and classes there",)
    assert folder.coordinator_config.read_text() == edited
    _, again = founded(tmp_path, broker_port=18883)
    assert f"left {folder.coordinator_config} as it is: its broker.port is 8883" in again.done


def test_with_a_pack_and_classes_the_rounds_can_begin_over_tls(tmp_path: Path) -> None:
    folder, _ = founded(tmp_path, pack=tmp_path / "my pack", classes=("größe", 'a "b"'))
    config = load(folder.coordinator_config)
    assert (config.fleet, config.pack, config.classes) == (FLEET, tmp_path / "my pack", ("größe", 'a "b"'))
    assert config.revoked_file == folder.revoked_devices
    tls = config.broker.tls()
    assert tls is not None
    assert tls.certificate_file == folder.coordinator_certificate


@pytest.mark.parametrize("wish", [{"fleet": None}, {"hosts": ()}, {"fleet": "a b"}, {"hosts": ("a b",)}])
def test_a_wish_that_cannot_be_is_refused(tmp_path: Path, wish: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        founded(tmp_path, **wish)


def test_a_folder_has_one_fleet(tmp_path: Path) -> None:
    founded(tmp_path)
    with pytest.raises(ConfigError, match=f"holds the fleet {FLEET}, whose boards know it by that name"):
        founded(tmp_path, fleet="another")


@pytest.mark.parametrize(
    "damage", [lambda folder: folder.ca_key.write_text("x"), lambda folder: folder.ca_key.unlink()]
)
def test_a_folder_that_holds_no_whole_fleet_is_not_opened(
    tmp_path: Path, damage: Callable[[FleetFolder], object]
) -> None:
    folder, _ = founded(tmp_path)
    damage(folder)
    with pytest.raises(ConfigError, match="backup"):
        opened(folder)
