"""A board becomes a member with nothing but the commands, and is put out again."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.wire.link import Connected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.tls import TlsSettings
from tests.brokers import require_mosquitto, wait_for
from tests.system.sites import HOST, TIMEOUT_S, Site


class Board:
    """One that joins a site."""

    def __init__(self, site: Site, identity: Path) -> None:
        self.site, self.identity = site, identity

    def join(self, token: str) -> subprocess.Popen[str]:
        return self.site.start(
            "agent", "join", "--gateway", self.site.url, "--ca", str(self.site.paths.ca_certificate), "--device",
            "pi-1", "--identity", str(self.identity), "--token", token,
        )  # fmt: skip

    def link(self) -> MqttLink:
        files = TlsSettings(self.site.paths.ca_certificate, self.identity / "device.pem", self.identity / "device.key")
        settings = MqttSettings(HOST, self.site.broker_port, "pi-1", "pi-1", "", tls=files, first_retry_s=0.1)
        return MqttLink(settings, ())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    require_mosquitto()
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def test_a_board_joins_speaks_and_is_put_out(site: Site, tmp_path: Path) -> None:
    board = Board(site, tmp_path / "identity")
    token = str(site.operator("token")["token"])
    joining = board.join(token)
    waiting: list[Any] = []
    deadline_s = time.monotonic() + TIMEOUT_S
    while not waiting:
        assert joining.poll() is None, joining.communicate()
        assert time.monotonic() < deadline_s
        waiting = site.operator("requests")
    assert site.operator("approve", waiting[0]["id"])["state"] == "approved"
    out, _ = joining.communicate(timeout=TIMEOUT_S)
    assert (joining.returncode, waiting[0]["fingerprint"] in out) == (0, True)
    link = board.link()
    try:
        wait_for(link, Connected)
        revoked = site.operator("revoke", "pi-1")
        assert len(revoked["serials"]) == 1
        reasons: list[str] = []
        while not any("revoked" in reason for reason in reasons):
            assert time.monotonic() < deadline_s
            event = link.receive(1.0)
            reasons.append("" if event is None or isinstance(event, Connected) else str(event))
    finally:
        link.close()
    used_up = board.join(token)
    out, _ = used_up.communicate(timeout=TIMEOUT_S)
    assert (used_up.returncode, "used before" in out) == (1, True), out


def test_the_pasted_line_fetches_the_installer_that_it_names(site: Site, tmp_path: Path) -> None:
    """All of the line but its last command, which needs root and a board."""
    line, sudo, install = site.done("token", str(site.folder)).strip().partition(" && sudo ")
    assert sudo and install.startswith("sh rankfleet-install.sh --token ")
    shell = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": TIMEOUT_S}
    done = subprocess.run(["sh", "-c", line], check=True, **shell)
    assert done.stdout == "rankfleet-install.sh: OK\n"
    told = subprocess.run(["sh", "rankfleet-install.sh", "--help"], check=True, **shell).stdout
    assert told.startswith("Installs the rankfleet agent of the fleet site on this board.")
    script = (tmp_path / "rankfleet-install.sh").read_text()
    assert f"GATEWAY='https://{HOST}:{site.enrolment_port}'" in script
    assert f"BROKER_PORT='{site.broker_port}'" in script
    assert site.paths.ca_certificate.read_text() in script
