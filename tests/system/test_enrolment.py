"""A board becomes a member with nothing but the commands, and is put out again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.wire.link import Connected
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.tls import TlsSettings
from tests.brokers import free_port, require_mosquitto, wait_for

HOST = "127.0.0.1"
TIMEOUT_S = 60.0


class Site:
    """A gateway that runs, and the commands of its operator and of a board."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "site"
        self.board = root / "identity"
        self.broker_port, self.enrolment_port = free_port(), free_port()
        ports = ("--broker-port", str(self.broker_port), "--enrolment-port", str(self.enrolment_port))
        self.done("init", str(self.folder), "--fleet", "site", "--host", HOST, *ports)
        self.up = self.start("coordinator", "up", str(self.folder))
        self._wait_served()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def done(self, *arguments: str) -> str:
        process = self.start("coordinator", *arguments)
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, out
        return out

    def operator(self, command: str, *subject: str) -> Any:
        return json.loads(self.done(command, *subject, str(self.folder), "--json"))

    def join(self, token: str) -> subprocess.Popen[str]:
        ca = self.folder / "authority" / "ca.pem"
        return self.start(
            "agent", "join", "--gateway", f"https://{HOST}:{self.enrolment_port}", "--ca", str(ca), "--device", "pi-1",
            "--identity", str(self.board), "--token", token,
        )  # fmt: skip

    def link(self) -> MqttLink:
        files = TlsSettings(self.folder / "authority" / "ca.pem", self.board / "device.pem", self.board / "device.key")
        return MqttLink(MqttSettings(HOST, self.broker_port, "pi-1", "pi-1", "", tls=files, first_retry_s=0.1), ())

    def stop(self) -> None:
        self.up.terminate()
        self.up.communicate(timeout=TIMEOUT_S)

    def _wait_served(self) -> None:
        assert self.up.stdout is not None
        for line in self.up.stdout:
            if "boards join at" in line:
                return
        raise AssertionError("the gateway ended")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    require_mosquitto()
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()


def test_a_board_joins_speaks_and_is_put_out(site: Site) -> None:
    token = _token(site)
    joining = site.join(token)
    waiting: list[Any] = []
    deadline_s = time.monotonic() + TIMEOUT_S
    while not waiting:
        assert joining.poll() is None, joining.communicate()
        assert time.monotonic() < deadline_s
        waiting = site.operator("requests")
    assert site.operator("approve", waiting[0]["id"])["state"] == "approved"
    out, _ = joining.communicate(timeout=TIMEOUT_S)
    assert (joining.returncode, waiting[0]["fingerprint"] in out) == (0, True)
    link = site.link()
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
    used_up = site.join(token)
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
    assert (site.folder / "authority" / "ca.pem").read_text() in script


def _token(site: Site) -> str:
    return str(site.operator("token")["token"])
