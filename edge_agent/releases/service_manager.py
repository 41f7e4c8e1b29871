"""Who starts and stops the agent on a board: systemd, or nobody (a container, a chroot, a tree in a folder)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Protocol

from edge_agent.wire.errors import ReleaseError

from .layout import Board

AGENT_UNIT = "rankfleet-agent.service"
UNITS = (AGENT_UNIT, "rankfleet-update.service", "rankfleet-update.timer")
_RUNTIME = Path("run") / "systemd" / "system"
_LIMIT_S = 300


class ServiceManager(Protocol):
    """What releases need of whoever runs services. All methods may be called again without harm."""

    manages: bool
    """Whether it starts anything at all."""

    def process(self) -> int | None:
        """The agent's process id, or None where it does not run.

        Raises:
            ReleaseError: the manager cannot be asked.
        """

    def wanted(self) -> bool:
        """Whether the agent runs, or is meant to and fails; not where somebody stopped it.

        Raises:
            ReleaseError: the manager cannot be asked.
        """

    def start(self) -> None:
        """Starts the agent, of whatever release is current.

        Raises:
            ReleaseError: it does not start; the message says what the manager said.
        """

    def stop(self) -> None:
        """Stops the agent and returns when it is gone.

        Raises:
            ReleaseError: it cannot be stopped.
        """

    def forget(self) -> None:
        """Ends all of rankfleet's services for good, before their units are deleted.

        Raises:
            ReleaseError: one of them cannot be stopped.
        """

    def reread(self) -> None:
        """Has the manager notice that units came or went.

        Raises:
            ReleaseError: the manager refuses.
        """


class Systemd:
    """The systemd that runs this system."""

    manages = True

    def __init__(self, systemctl: str = "systemctl") -> None:
        self._systemctl = systemctl

    def process(self) -> int | None:
        """See `ServiceManager`."""
        shown = self._shown()
        pid = int(shown.get("MainPID", "0"))
        return pid if pid and shown.get("ActiveState") == "active" else None

    def wanted(self) -> bool:
        """See `ServiceManager`."""
        return self._shown().get("ActiveState", "inactive") not in {"inactive", "deactivating"}

    def start(self) -> None:
        """See `ServiceManager`."""
        # A unit that failed too often in a row is not started again before its count is put back.
        self._run("reset-failed", AGENT_UNIT, may_fail=True)
        self._run("start", AGENT_UNIT)

    def stop(self) -> None:
        """See `ServiceManager`."""
        self._run("stop", AGENT_UNIT)

    def forget(self) -> None:
        """See `ServiceManager`."""
        for unit in UNITS:
            if self._run("show", unit, "--property=LoadState").strip() == "LoadState=loaded":
                # An update that removes rankfleet would end itself here: its service has no other part than that.
                self._run("disable", *(() if unit == "rankfleet-update.service" else ("--now",)), unit)

    def reread(self) -> None:
        """See `ServiceManager`."""
        self._run("daemon-reload")

    def _shown(self) -> dict[str, str]:
        lines = self._run("show", AGENT_UNIT, "--property=ActiveState,MainPID").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _run(self, *arguments: str, may_fail: bool = False) -> str:
        command = [self._systemctl, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReleaseError(f"'{' '.join(command)}' cannot be carried out: {error}; is systemd running?") from error
        if done.returncode and not may_fail:
            raise ReleaseError(
                f"'{' '.join(command)}' failed: {done.stderr.strip() or done.stdout.strip() or 'no reason given'}; "
                f"'journalctl -u {AGENT_UNIT}' tells more"
            )
        return done.stdout


class NoManager:
    """Nobody starts services here."""

    manages = False

    def process(self) -> int | None:
        """None: whoever runs the agent here does it by hand."""
        return None

    def wanted(self) -> bool:
        """False."""
        return False

    def start(self) -> None:
        """Starts nothing."""

    def stop(self) -> None:
        """Stops nothing."""

    def forget(self) -> None:
        """Nothing to forget."""

    def reread(self) -> None:
        """Nothing to read."""


def service_manager(board: Board) -> ServiceManager:
    """The service manager of `board`: systemd where it runs this very system."""
    return Systemd() if board.real and (board.root / _RUNTIME).is_dir() else NoManager()
