"""What the package's builder refuses, and its scripts. The package itself is in tests/system/test_deb.py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.board import deb
from deploy.board.wheels import Target
from edge_agent import config
from edge_agent.releases.service_manager import UNITS
from edge_agent.wire.errors import ConfigError

SCRIPTS = deb.CLONE / "deploy" / "board" / "debian"


def _manual(version: str, date: str) -> str:
    return f"{version} {date}"


def test_an_unknown_machine_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a target of aarch64, x86_64 .* got armv7l"):
        deb.build(deb.Package(Target("armv7l", "3.11")), tmp_path / "out", _manual)
    assert not (tmp_path / "out").exists()


def test_the_date_of_the_sources_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1795718445")
    assert deb.source_date_s() == 1795718445
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(ConfigError, match="got 'yesterday'"):
        deb.source_date_s()


def test_without_git_and_without_a_date_the_builder_asks_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="set SOURCE_DATE_EPOCH"):
        deb.source_date_s()


@pytest.mark.parametrize("name", ["rankfleet", "preinst", "postinst", "prerm", "postrm"])
def test_shellcheck_finds_nothing_in_a_script(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("no shellcheck here: apt install shellcheck")
    done = subprocess.run([shellcheck, str(SCRIPTS / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_packages_units_are_those_of_every_board_and_wait_for_its_configuration() -> None:
    units = deb.units()
    assert set(units) == set(UNITS)
    agent, update = units["rankfleet-agent.service"], units["rankfleet-update.service"]
    assert "Description=rankfleet agent %H\n" in agent
    assert "ExecStart=/usr/bin/rankfleet agent run /etc/rankfleet/agent.toml" in agent
    assert "StateDirectory=rankfleet/state" in agent and "MemoryMax=85%" in agent
    assert "ExecStart=/usr/bin/rankfleet agent update /etc/rankfleet/agent.toml" in update
    for text in (agent, update):
        assert "\nConditionPathExists=/etc/rankfleet/agent.toml\n" in text
    assert "\nConditionPathExists=/var/lib/rankfleet/identity/device.pem\n" in update


def test_the_example_configuration_is_one_and_keeps_to_the_packages_folders(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text(deb.example())
    settings = config.load(tmp_path / "agent.toml")
    folders = {line.split()[1] for line in (SCRIPTS / "tmpfiles.conf").read_text().splitlines()}
    broker = settings.broker
    files = [broker.ca_file, broker.certificate_file, broker.key_file]
    assert {str(path.parent) for path in files if path is not None} == {"/var/lib/rankfleet/identity"}
    assert {str(settings.state_dir), str(settings.data), "/var/lib/rankfleet/identity"} < folders
    assert (broker.port, settings.gateway.url) == (8883, "https://gateway.example.org:8443")
