"""What the supervisor of an agent takes while nothing is trained: a real broker over TLS, a coordinator and an agent.

The agent joins, measures itself in a trainer process, and waits for a second device that never comes: that is the first
state. Then its fleet does one round, and the coordinator is stopped: connected to the broker, its trainer gone, the
supervisor is what it is between rounds.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil

from coordinator.enrolment.authority import Authority
from edge_agent import memory
from edge_agent.wire.errors import RankfleetError

SAMPLE_EVERY_S = 1.0
SETTLED_S = 5.0
PATIENCE_S = 600.0
POLL_S = 0.2
FLEET, DEVICE, COORDINATOR = "idle", "board", "coordinator"
CLASSES = ("even", "odd")
EXAMPLES = 64
_ACL = f"user {COORDINATOR}\ntopic readwrite rankfleet/#\npattern readwrite rankfleet/{FLEET}/%u/#\n"


class Idle(msgspec.Struct, frozen=True):
    """Samples of the supervisor alone, in bytes, of one state."""

    state: str
    rss_bytes: tuple[int, ...]
    anonymous_bytes: tuple[int, ...]
    pss_bytes: tuple[int, ...]
    """Proportional set size: pages that other processes on this machine share count in part only. Empty where the
    system does not tell."""


def measure_idle(pack: Path, folder: Path, samples: int) -> list[Idle]:
    """The supervisor of an agent of `pack`, in both states; its fleet's files lie in `folder`, which is empty.

    Raises:
        RankfleetError: no Mosquitto, or a process of the fleet did not do its part; names its log.
    """
    port = _write_fleet(folder)
    with _process(folder, "broker", [_mosquitto(), "-c", str(folder / "mosquitto.conf")]):
        agent_command = [sys.executable, "-m", "edge_agent", str(folder / "agent.toml")]
        with _process(folder, "agent", agent_command) as agent:
            with _coordinator(folder, pack, port, devices=2):
                _wait(folder, "agent", lambda: _says(folder, "agent", "-> idle") and not agent.children())
                joined = _sample("joined, before a round", agent, samples)
            with _coordinator(folder, pack, port, devices=1):
                _wait(folder, "agent", lambda: _says(folder, "agent", "offering -> idle"))
            _wait(folder, "agent", lambda: not agent.children())
            return [joined, _sample("after a round", agent, samples)]


def lines(rows: list[Idle]) -> list[str]:
    """For a person: medians, and in brackets the least and the most, in MB of 10^6 bytes."""
    head = f"{'state':<24}  {'RSS MB':<22}  {'PSS MB':<22}  anonymous MB"
    return [head, *(f"{row.state:<24}  {_told(row.rss_bytes):<22}  {_told(row.pss_bytes):<22}  "
                    f"{_told(row.anonymous_bytes)}" for row in rows)]  # fmt: skip


def _told(values: tuple[int, ...]) -> str:
    if not values:
        return "not told"
    return f"{median(values) / 1e6:.1f} ({min(values) / 1e6:.1f} to {max(values) / 1e6:.1f})"


def _sample(state: str, process: psutil.Process, samples: int) -> Idle:
    time.sleep(SETTLED_S)
    taken, shares = [], []
    for _ in range(samples):
        time.sleep(SAMPLE_EVERY_S)
        taken.append(memory.tree(process.pid))
        shares.append(memory.proportional(process.pid))
    return Idle(
        state,
        tuple(one.rss_bytes for one in taken),
        tuple(one.anonymous_bytes for one in taken),
        tuple(share.pss_bytes for share in shares if share is not None),
    )


def _write_fleet(folder: Path) -> int:
    """Certificates, and configurations of broker and agent; the broker's port."""
    now, port = datetime.now(timezone.utc), _free_port()
    authority = Authority.create(FLEET, now)
    (folder / "ca.pem").write_bytes(authority.certificate_pem)
    pairs = {"server": authority.server(["127.0.0.1"], now)}
    pairs |= {name: authority.client(name, now) for name in (COORDINATOR, DEVICE)}
    for name, pair in pairs.items():
        (folder / f"{name}.pem").write_bytes(pair.certificate_pem)
        (folder / f"{name}.key").write_bytes(pair.key_pem)
        (folder / f"{name}.key").chmod(0o600)
    (folder / "acl").write_text(_ACL, encoding="utf-8")
    broker = {
        "listener": f"{port} 127.0.0.1", "user": getpass.getuser(), "persistence": "false", "acl_file": folder / "acl",
        "cafile": folder / "ca.pem", "certfile": folder / "server.pem", "keyfile": folder / "server.key",
        "require_certificate": "true", "use_identity_as_username": "true", "allow_anonymous": "false",
    }  # fmt: skip
    (folder / "mosquitto.conf").write_text("".join(f"{key} {value}\n" for key, value in broker.items()))
    texts = ({"text": f"number {index}", "label": CLASSES[index % 2]} for index in range(EXAMPLES))
    (folder / "texts.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="utf-8")
    agent = {"device": DEVICE, "fleet": FLEET, "data": "texts.jsonl", "state_dir": "state"}
    (folder / "agent.toml").write_text(_toml(agent) + _broker_table(port, DEVICE), encoding="utf-8")
    return port


def _broker_table(port: int, name: str) -> str:
    files = {"ca_file": "ca.pem", "certificate_file": f"{name}.pem", "key_file": f"{name}.key"}
    return "\n[broker]\n" + _toml({"host": "127.0.0.1", "port": port, **files})


def _toml(settings: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())


@contextmanager
def _coordinator(folder: Path, pack: Path, port: int, devices: int) -> Iterator[None]:
    """One that waits for so many devices before a round."""
    plain = {"fleet": FLEET, "pack": str(pack.resolve()), "classes": CLASSES, "run_dir": "run"}
    round_table = "\n[round]\n" + _toml({"expected": devices, "quorum": devices, "gather_s": PATIENCE_S})
    head = "\n[head]\n" + _toml({"start": "seed"})  # so that the first round trains
    config = folder / "coordinator.toml"
    config.write_text(_toml(plain) + round_table + head + _broker_table(port, COORDINATOR), encoding="utf-8")
    with _process(folder, "coordinator", _rankfleet("coordinator", "run", str(config))):
        yield


@contextmanager
def _process(folder: Path, name: str, command: list[str]) -> Iterator[psutil.Process]:
    """A process that logs to `NAME.log`, and is stopped at the end."""
    with (folder / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        yield psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(PATIENCE_S / 10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _wait(folder: Path, name: str, done: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline_s:
            end = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RankfleetError(f"the {name} did not get as far as expected in {PATIENCE_S:g} s; its log ends:\n{end}")
        time.sleep(POLL_S)


def _says(folder: Path, name: str, words: str) -> bool:
    return words in (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")


def _rankfleet(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.cli.main", *arguments]


def _mosquitto() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        raise RankfleetError("no Mosquitto, which this measurement needs: sudo apt install mosquitto")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
