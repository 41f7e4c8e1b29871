"""`rankfleet coordinator init` in this process: what the operator is told. `up` is in tests/system/test_gateway.py."""

from __future__ import annotations

import re
import socket
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.enrolment import admin_token, broker_config
from coordinator.enrolment.authority import SERVER_DAYS
from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.opening import enrolment_service
from coordinator.enrolment.services import Broker
from deploy.cli import fleet
from deploy.cli.gateway import keep_up
from deploy.cli.main import main
from tests.brokers import free_port, require_mosquitto
from tests.certificates import HOST, NOW
from tests.gateways import founded
from tests.models import tiny_pack
from tests.system.fleet import wait_until


@pytest.fixture(autouse=True)
def _with_mosquitto() -> None:
    require_mosquitto()


def init(folder: Path, *more: str) -> int:
    return main(["coordinator", "init", str(folder), *more])


def test_it_says_what_it_made_and_shows_the_token_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = FleetFolder(tmp_path / "fleet")
    assert init(folder.root, "--fleet", "depot", "--host", "gw.local", "--host", "10.0.0.1") == 0
    said = capsys.readouterr().out
    token = re.search(r"Admin token, shown this once: (\S+)", said)
    assert token is not None and admin_token.is_valid(folder, token[1])
    assert "made the server's certificate for gw.local, 10.0.0.1, localhost, 127.0.0.1: there was none" in said
    assert f"rankfleet coordinator up {folder.root}" in said
    assert str(folder.unit) in said
    assert "PRIVATE KEY" not in said
    assert init(folder.root) == 0
    assert capsys.readouterr().out == "nothing to do: everything is whole\n"


def test_pack_and_classes_go_into_the_rounds_configuration(tmp_path: Path) -> None:
    folder = FleetFolder(tmp_path)
    more = ("--pack", str(tiny_pack()), "--classes", "belt", "pump", "--broker-port", "18883")
    assert init(folder.root, "--fleet", "depot", "--host", "gw.local", *more) == 0
    written = folder.coordinator_config.read_text()
    for line in (f'pack = "{tiny_pack()}"', 'classes = ["belt", "pump"]', "port = 18883"):
        assert f"\n{line}\n" in written


def test_upkeep_renews_the_servers_certificate_at_broker_and_service(tmp_path: Path) -> None:
    almost_over = NOW - timedelta(days=SERVER_DAYS - 10)
    ports = {"broker_port": free_port(), "enrolment_port": free_port()}
    folder, made = founded(tmp_path / "fleet", now=almost_over, **ports)
    broker = Broker(folder, made.settings, broker_config.installed())
    served = fleet.read(folder.root)
    service = enrolment_service(served, host=HOST)
    broker.start()
    service.start()
    old = folder.server_certificate.read_text()
    try:
        assert {_shown(folder, port) for port in ports.values()} == {old}
        keep_up(served, broker_config.installed(), print, service)
        new = folder.server_certificate.read_text()
        assert new != old
        wait_until(lambda: {_shown(folder, port) for port in ports.values()} == {new}, 20.0, lambda: "not taken up")
    finally:
        service.stop()
        broker.stop()


def _shown(folder: FleetFolder, port: int) -> str:
    """The certificate, PEM, that a server shows."""
    context = ssl.create_default_context(cafile=folder.ca_certificate)
    context.load_cert_chain(folder.coordinator_certificate, folder.coordinator_key)
    with (
        socket.create_connection((HOST, port), 20) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown)


def test_without_a_name_or_host_it_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert init(tmp_path / "fleet", "--fleet", "depot") == 1
    assert "give --fleet NAME, and --host" in capsys.readouterr().err
    assert not (tmp_path / "fleet").exists()


def test_without_mosquitto_it_makes_nothing_and_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_config.shutil, "which", lambda name: "/nowhere/mosquitto")
    assert init(tmp_path / "fleet", "--fleet", "depot", "--host", "gw") == 1
    assert "sudo apt install mosquitto" in capsys.readouterr().err
    assert not (tmp_path / "fleet").exists()


def test_a_folder_without_a_fleet_cannot_be_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["coordinator", "up", str(tmp_path)]) == 1
    assert "holds no fleet: make one with `rankfleet coordinator init" in capsys.readouterr().err
