"""Boards as real processes: `rankfleet agent join` and `renew` with a folder of their own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.coordinator.enrolment.gates import HOST, Gate

TIMEOUT_S = 60.0


class Board:
    """One board, with a configuration as its installer writes it."""

    def __init__(self, site: Gate, name: str) -> None:
        self.site = site
        self.name = name
        self.folder = site.folder / "boards" / name
        self.identity = self.folder / "identity"
        self.folder.mkdir(parents=True)
        self.config = self.folder / "agent.toml"
        self.config.write_text(
            f'device = "{name}"\nfleet = "site"\ndata = "data"\nstate_dir = "state"\n'
            f'[broker]\nhost = "{HOST}"\nca_file = "{site.ca}"\ncertificate_file = "identity/device.pem"\n'
            f'key_file = "identity/device.key"\n[gateway]\nurl = "{site.url}"\n'
        )

    def start(self, command: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", "agent", command, str(self.config), *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        process = self.start(command, *options)
        out, errors = process.communicate(timeout=TIMEOUT_S)
        assert "Traceback" not in errors
        return subprocess.CompletedProcess(command, process.returncode, out, errors)

    def wait_pending(self) -> str:
        """The id of this board's request, once the gateway has it."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline_s:
            with self.site.desk() as desk:
                for request in desk.registry.requests():
                    if request.device == self.name:
                        return request.id
            time.sleep(0.05)
        raise AssertionError("no request came")

    def keys(self) -> list[Path]:
        return sorted((self.identity / "pairs").glob("*/device.key"))
