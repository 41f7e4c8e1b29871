"""What a gateway consists of: services that are started, watched and stopped alike; here those that are processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from edge_agent.wire.errors import ConfigError, LinkError, StoreError
from edge_agent.wire.settings import read_toml

from .broker_config import Mosquitto
from .fleet import FleetSettings
from .folder import FleetFolder
from .readiness import NOTIFY_SOCKET

START_S = 15.0
STOP_S = 10.0
POLL_S = 0.05

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Service(Protocol):
    """One part of a gateway."""

    name: str

    def start(self) -> None:
        """Returns when it serves.

        Raises:
            RankfleetError: it cannot; says what to do.
        """

    def stop(self) -> None:
        """Ends it in order. Does nothing where it does not run."""

    def failed(self) -> str | None:
        """Why it does not serve any more; None while it does, and where its work is done."""


class Child:
    """A process that ends with us, however we end. Ctrl-C at the terminal does not reach it: we end it in order."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it. Only the main thread may: the system takes the end of a thread for that of its process."""
        parent = os.getpid()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name != NOTIFY_SOCKET},  # it is ours to answer
            start_new_session=True,
            preexec_fn=lambda: _end_with(parent),  # noqa: PLW1509 (what it calls takes no locks)
        )

    def status(self) -> int | None:
        """Its exit status; None while it runs, and where it was not started."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """In order while there is time, by force after that."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Broker:
    """Mosquitto with the fleet's configuration."""

    name = "broker"

    def __init__(self, folder: FleetFolder, settings: FleetSettings, mosquitto: Mosquitto) -> None:
        self._port = settings.broker_port
        self._child = Child((str(mosquitto.binary), "-c", str(folder.mosquitto_conf)))

    def start(self) -> None:
        """Returns when it listens.

        Raises:
            ConfigError: the port is taken.
            LinkError: it does not start.
        """
        check_free(self._port, "broker_port")
        self._child.start()
        deadline_s = time.monotonic() + START_S
        while not _listens(self._port):
            status = self._child.status()
            if status is not None or time.monotonic() > deadline_s:
                self._child.stop()
                ending = f"ended with status {status}" if status is not None else f"did not listen in {START_S:g} s"
                raise LinkError(f"the broker {ending}; what it said of it is above")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """Ends it: it writes what it keeps of sessions."""
        self._child.stop()

    def failed(self) -> str | None:
        """Why it does not run."""
        status = self._child.status()
        return None if status is None else f"it ended with status {status}"


Standing = Literal["running", "stopped", "over", "failed", "not set"]
"""Of the rounds. `stopped`: by the operator. `not set`: the configuration says no pack or no classes."""


class Rounds:
    """`command`, a coordinator in a process of its own, where the operator's configuration says what to train."""

    name = "rounds"

    def __init__(self, folder: FleetFolder, command: Sequence[str], say: Callable[[str], None]) -> None:
        self._folder = folder
        self._say = say
        self._child = Child(command)
        self._told = False
        self._begun = False

    @property
    def standing(self) -> Standing:
        """What they are doing. Any thread may ask."""
        if self._folder.rounds_stopped.exists():
            return "stopped"
        status = self._child.status()
        if status is not None:
            return "failed" if status else "over"
        return "running" if self._begun else "not set"

    def start(self) -> None:
        """Starts them, or says what is missing for that.

        Raises:
            ConfigError: the configuration cannot be read.
        """
        self._begun = False
        if self._folder.rounds_stopped.exists():
            self._say("no rounds: they were stopped, start them on the page")
            return
        missing = not_set(self._folder)
        if missing:
            self._say(
                f"no rounds: set {' and '.join(missing)} in {self._folder.coordinator_config}, then start the gateway "
                "again"
            )
            return
        self._child.start()
        self._begun = True

    def stop(self) -> None:
        """Ends them: every update that was acknowledged is on disk."""
        self._child.stop()

    def failed(self) -> str | None:
        """Why they ended before they were over."""
        status = self._child.status()
        if status == 0 and not self._told:
            self._told = True
            self._say("the rounds are over; the rest of the gateway stays")
        return f"they ended with status {status}" if status else None


def order(folder: FleetFolder, run: bool) -> None:
    """Whether the rounds are to run, from when they are started again.

    Raises:
        StoreError: it cannot be written.
    """
    if not run:
        folder.write(folder.rounds_stopped, b"")
        return
    try:
        folder.rounds_stopped.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{folder.rounds_stopped} cannot be removed: {error}; check the folder's owner") from error


def not_set(folder: FleetFolder) -> tuple[str, ...]:
    """What the configuration of the rounds leaves open.

    Raises:
        ConfigError: it cannot be read.
    """
    tree = read_toml(folder.coordinator_config, "docs/configuration.md")
    return tuple(name for name in ("pack", "classes") if name not in tree)


def check_free(port: int, setting: str) -> None:
    """That nobody listens on `port`.

    Raises:
        ConfigError: somebody does, or we may not.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be used: {error.strerror}; stop what uses it, or set another {setting} in "
                "fleet.toml"
            ) from error


def _listens(port: int) -> bool:
    """Asked of the system, not of the broker: it would log a connection that says nothing."""
    try:
        check_free(port, "")
    except ConfigError:
        return True
    return False


def _end_with(parent: int) -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended in between
        os._exit(1)
