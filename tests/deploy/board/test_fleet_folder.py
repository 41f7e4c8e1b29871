"""An installer is told of its fleet by the fleet's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.board.fleet_folder import load
from deploy.board.installer import Fleet
from edge_agent.wire.errors import ConfigError


def folder(path: Path, hosts: str, more: str = "") -> Path:
    (path / "authority").mkdir()
    (path / "authority" / "ca.pem").write_text("certificate")
    (path / "fleet.toml").write_text(f'fleet = "depot"\nhosts = {hosts}\n{more}')
    return path


def test_the_first_host_is_the_gateway(tmp_path: Path) -> None:
    made = folder(tmp_path, '["gateway.local", "10.0.0.2"]', "broker_port = 9883\nenrolment_port = 9443\n")
    assert load(made) == Fleet("certificate", "https://gateway.local:9443", "depot", 9883)


def test_an_address_of_ipv6_stands_in_brackets(tmp_path: Path) -> None:
    assert load(folder(tmp_path, '["fd00::1"]')).gateway == "https://[fd00::1]:8443"


def test_what_is_no_fleets_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fleet\.toml"):
        load(tmp_path)
