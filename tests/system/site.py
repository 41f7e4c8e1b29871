"""A gateway that runs, by its own commands, and what its operator and a board do with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coordinator.enrolment.folder import FleetFolder
from coordinator.enrolment.founding import opened
from coordinator.enrolment.opening import Fleet
from edge_agent.wire.mqtt import MqttLink, MqttSettings
from edge_agent.wire.tls import TlsSettings
from tests.brokers import free_port, require_mosquitto
from tests.coordinator.enrolment.gates import utc_now

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

    def token(self) -> str:
        """By the service's own way: the line needs an installer, which is the board's matter."""
        folder = FleetFolder(self.folder)
        with Fleet(folder, *opened(folder), None, utc_now).desk() as desk:
            return desk.issue_token(utc_now())

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


@contextmanager
def running(root: Path) -> Iterator[Site]:
    """A gateway below `root`; skips the test where there is no Mosquitto."""
    require_mosquitto()
    made = Site(root)
    try:
        yield made
    finally:
        made.stop()
