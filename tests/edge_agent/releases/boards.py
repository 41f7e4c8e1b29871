"""A board in a folder, and a service manager that starts real processes of the release that is current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_agent.releases.layout import Board
from edge_agent.wire.errors import ReleaseError

AGENT = "import sys, time; print('up', flush=True); time.sleep({lives_s})"


class Processes:
    """A service manager whose agent is a process that lives for `lives_s` seconds, by release."""

    manages = True

    def __init__(self, board: Board, lives_s: dict[str, float] | None = None, running: bool = True) -> None:
        self.board, self.lives_s = board, lives_s or {}
        self.happened: list[str] = []
        self._agent: subprocess.Popen[str] | None = None
        if running:
            self.start()
        self.happened.clear()

    def process(self) -> int | None:
        return self._agent.pid if self._agent is not None and self._agent.poll() is None else None

    def wanted(self) -> bool:
        return self.process() is not None

    def start(self) -> None:
        version = self.board.current.readlink().name
        self.happened.append(f"start {version}")
        lives_s = self.lives_s.get(version, 60)
        if lives_s < 0:
            raise ReleaseError(f"the agent of {version} does not start")
        self._agent = subprocess.Popen(
            [sys.executable, "-c", AGENT.format(lives_s=lives_s)], stdout=subprocess.PIPE, text=True
        )
        assert self._agent.stdout is not None
        self._agent.stdout.readline()

    def stop(self) -> None:
        self.happened.append("stop")
        if self._agent is not None:
            self._agent.kill()
            self._agent.communicate()
            self._agent = None

    def forget(self) -> None:
        self.stop()

    def reread(self) -> None:
        self.happened.append("reread")


def tree(root: Path) -> set[str]:
    """Every file, folder and link below `root`."""
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def version_of(release: Path) -> str:
    """What the command of a release says, with no other modules than its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([release / "bin" / "rankfleet"], capture_output=True, text=True, check=True, env=environ)
    return done.stdout.strip()
