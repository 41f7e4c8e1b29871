"""Real brokers for tests: Mosquitto as a process of its own, and the embedded one."""

from __future__ import annotations

import contextlib
import getpass
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pytest

from coordinator.broker import EmbeddedBroker
from edge_agent.wire.link import Connected, Disconnected, Link, Received

E = TypeVar("E", Connected, Disconnected, Received)

PASSWORD = "correct horse"
USERS = {"coordinator": PASSWORD, "pi-1": PASSWORD, "pi-2": PASSWORD}
START_TIMEOUT_S = 20.0
EVENT_TIMEOUT_S = 20.0
_RECEIVED = re.compile(r"Received PUBLISH from .*\((\d+) bytes\)\)$", re.MULTILINE)
ACL = """user coordinator
topic readwrite rankfleet/#
pattern readwrite rankfleet/+/%u/#
"""


class Mosquitto:
    """A Mosquitto of its own, on a port that stays the same over restarts; `prefix` stands before its command."""

    def __init__(
        self,
        folder: Path,
        max_packet_bytes: int | None,
        users: Mapping[str, str],
        lines: tuple[str, ...],
        host: str,
        prefix: tuple[str, ...],
    ) -> None:
        self.host = host
        self.port = free_port()
        self._prefix = prefix
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        passwords, acl = folder / "passwords", folder / "acl"
        passwords.write_text("".join(f"{user}:{password}\n" for user, password in users.items()))
        passwords.chmod(0o600)
        subprocess.run([shutil.which("mosquitto_passwd") or "mosquitto_passwd", "-U", str(passwords)], check=True)
        acl.write_text(ACL)
        limit = () if max_packet_bytes is None else (f"max_packet_size {max_packet_bytes}",)
        settings = (
            f"listener {self.port} {self.host}",
            f"user {getpass.getuser()}",
            "allow_anonymous false",
            f"password_file {passwords}",
            f"acl_file {acl}",
            "persistence false",
            *limit,
            *lines,
        )
        self._config.write_text("\n".join(settings) + "\n")

    def start(self) -> None:
        with self._log.open("ab") as log:
            said_bytes = log.tell()
            command = [*self._prefix, _binary(), "-c", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while b" running\n" not in self._log.read_bytes()[said_bytes:]:  # it listens by then, in whatever network
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"Mosquitto did not start: {self._log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ejected(self) -> int:
        """How often it ended a connection, "out of memory", with all the memory there is.

        2.0.11 does that now and then to a client that sends fast on MQTT 5.
        """
        return self._log.read_text(errors="replace").count("disconnected due to out of memory")

    def payloads_bytes(self) -> list[int]:
        """Of every message that came so far; needs the line `log_type all`."""
        return [int(size) for size in _RECEIVED.findall(self._log.read_text(errors="replace"))]


class Embedded:
    """The embedded broker with the same handles."""

    host = "127.0.0.1"

    def __init__(self, users: Mapping[str, str]) -> None:
        self.port = free_port()
        self._users = users
        self._broker: EmbeddedBroker | None = None

    def start(self) -> None:
        self._broker = EmbeddedBroker(self._users, port=self.port)
        self._broker.start()

    def ejected(self) -> int:
        return 0

    def kill(self) -> None:
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


Server = Mosquitto | Embedded


@contextlib.contextmanager
def embedded(*, users: Mapping[str, str] = USERS, started: bool = True) -> Iterator[Embedded]:
    """The embedded broker on a port of its own."""
    broker = Embedded(users)
    try:
        if started:
            broker.start()
        yield broker
    finally:
        broker.kill()


@contextlib.contextmanager
def mosquitto(
    folder: Path,
    *,
    max_packet_bytes: int | None = None,
    users: Mapping[str, str] = USERS,
    lines: tuple[str, ...] = (),
    host: str = "127.0.0.1",
    prefix: tuple[str, ...] = (),
    started: bool = True,
) -> Iterator[Mosquitto]:
    """A Mosquitto with a password a user and the ACL of the fleet; `lines` go into its configuration."""
    require_mosquitto()
    broker = Mosquitto(folder, max_packet_bytes, users, lines, host, prefix)
    try:
        if started:
            broker.start()
        yield broker
    finally:
        broker.kill()


def require_mosquitto() -> None:
    if not Path(_binary()).exists():
        pytest.skip("NO MOSQUITTO, so the link is NOT tested against a real broker: sudo apt install mosquitto")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(link: Link, kind: type[E]) -> E:
    """The next event of `kind`; others before it are dropped."""
    deadline_s = time.monotonic() + EVENT_TIMEOUT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        event = link.receive(left_s)
        if isinstance(event, kind):
            return event
    raise AssertionError(f"no {kind.__name__} in {EVENT_TIMEOUT_S} s")


def _binary() -> str:
    return shutil.which("mosquitto") or "/usr/sbin/mosquitto"  # which an ordinary user's PATH lacks on Debian
