"""A gateway that runs, made and operated with nothing but the commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from coordinator.enrolment.folder import FleetFolder
from tests.brokers import free_port
from tests.system.fleet import wait_until

HOST = "127.0.0.1"
TIMEOUT_S = 60.0


class Site:
    """`folder` is the fleet's. What `up` says is in `up.log` beside it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "site"
        self.paths = FleetFolder(self.folder)
        self.log = root / "up.log"
        self.broker_port, self.enrolment_port = free_port(), free_port()
        ports = ("--broker-port", str(self.broker_port), "--enrolment-port", str(self.enrolment_port))
        ports = (*ports, "--web-port", str(free_port()))
        self.done("init", str(self.folder), "--fleet", "site", "--host", HOST, *ports)
        with self.log.open("w") as log:
            self.up = self.start("coordinator", "up", str(self.folder), stdout=log)
        try:
            wait_until(lambda: self.serves or self.up.poll() is not None, TIMEOUT_S, self.log.read_text)
            assert self.up.poll() is None, self.log.read_text()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.enrolment_port}"

    @property
    def serves(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.enrolment_port)) == 0

    def start(self, *arguments: str, stdout: Any = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            stdout=stdout, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def done(self, *arguments: str) -> str:
        """What a command of the coordinator says that succeeds."""
        process = self.start("coordinator", *arguments)
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, out
        return out

    def operator(self, command: str, *subject: str) -> Any:
        """What it says as JSON."""
        return json.loads(self.done(command, *subject, str(self.folder), "--json"))

    def stop(self) -> None:
        self.up.terminate()
        self.up.communicate(timeout=TIMEOUT_S)
