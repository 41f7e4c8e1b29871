"""A board that joins with the gateway's line, and the gateway beside it: what both are told, and what they say.

What is printed, with pytest's `-s`, is what a technician sees.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.enrolment.folder import FleetFolder
from tests.brokers import free_port, require_mosquitto
from tests.models import tiny_pack
from tests.system.fleet import CLASSES, Process, wait_until

FLEET, DEVICE = "depot", "pi-1"
CONFIG = "/etc/rankfleet/agent.toml"
PATIENCE_S = 1800.0
"""For whatever an emulator does; it is the processor, and a machine may have other work."""
_ROUNDS = """
[round]
rounds = {rounds}
expected = 1
quorum = 1

[ranks]
initial = 3
target = 1.0
warmup_rounds = 0
final_rounds = 1

[training]
batch_size = 8
max_tokens = 16
lr_head = 0.02
"""


def show(text: str) -> None:
    """What a technician sees, for whoever runs this with `-s`."""
    print(text, flush=True)  # noqa: T201 (that is what it is for)


class Command:
    """A command that runs, and what it says meanwhile, which is shown line by line."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._begun_s, self._said = time.monotonic(), list[str]()
        self._popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            errors="replace", env=environ,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def said(self) -> str:
        return "".join(self._said)

    def says(self, pattern: str) -> str:
        """Waits for it; what the first group of `pattern` holds."""
        wait_until(
            lambda: bool(re.search(pattern, self.said)) or self._popen.poll() is not None,
            PATIENCE_S,
            lambda: f"it never said {pattern!r}: {self.said}",
        )
        found = re.search(pattern, self.said)
        assert found is not None, self.said
        return found[1]

    def ends(self, status: int = 0) -> str:
        """What it said in all, once it has ended with this status."""
        ended = self._popen.wait(PATIENCE_S)
        self._reader.join()
        show(f"({time.monotonic() - self._begun_s:.0f} s)\n")
        assert ended == status, self.said
        return self.said

    def stop(self) -> None:
        if self._popen.poll() is None:
            self._popen.terminate()
            self._popen.wait(60.0)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._said.append(line)
            show(line.rstrip("\n"))


class Gateway:
    """A gateway that runs at `host`, as the board sees it, for so many short rounds; what its operator says to it."""

    def __init__(self, root: Path, host: str, rounds: int) -> None:
        require_mosquitto()
        self.folder = FleetFolder(root / FLEET)
        self._root = root
        kinds = ("broker", "enrolment", "web")
        ports = [word for kind in kinds for word in (f"--{kind}-port", str(free_port()))]
        job = ("--pack", str(tiny_pack()), "--classes", *CLASSES)
        self.operator("init", "--fleet", FLEET, "--host", host, *ports, *job)
        config = self.folder.coordinator_config
        config.write_text(config.read_text().partition("[round]")[0] + _ROUNDS.format(rounds=rounds))
        line = [sys.executable, "-m", "deploy.cli.main", "coordinator", "up", str(self.folder.root)]
        self.up = Process(line, "up", root / "up.log", {"PYTHONUNBUFFERED": "1"})

    def says(self, text: str) -> None:
        wait_until(
            lambda: any(text in line for line in self.up.lines) or not self.up.running,
            PATIENCE_S,
            lambda: f"the gateway never said {text!r}: {self.up.lines} {self.up.stderr[-3000:]}",
        )
        assert any(text in line for line in self.up.lines), self.up.stderr[-3000:]

    def operator(self, command: str, *words: str) -> str:
        """What a command of the coordinator says."""
        subject = words[:1] if command in {"approve", "reject", "revoke"} else ()
        return self.rankfleet("coordinator", command, *subject, str(self.folder.root), *words[len(subject) :])

    def bundle(self, out: Path, machine: str, python: str) -> Path:
        """Makes the bundle of such boards, for the fleet and in `out`."""
        target = ("--target", machine, "--python", python)
        self.rankfleet("deploy", "bundle", *target, "--fleet", str(self.folder.root), "--out", str(out))
        (made,) = out.glob("rankfleet-agent-*.tar")
        return made

    def rankfleet(self, *words: str) -> str:
        """What a command says; shows it as a technician would type it."""
        show(f"gateway$ rankfleet {' '.join(words)}")
        line = [sys.executable, "-m", "deploy.cli.main", *words]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        show(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        if self.up.running:
            self.up.terminate()
            self.up.wait()
        for line in self.up.lines:
            show(f"gateway: {line.rstrip()}")


@contextmanager
def serving(folder: Path, host: str, rounds: int) -> Iterator[Gateway]:
    """A gateway with a pack, classes, and no board yet; see `Gateway`."""
    gateway = Gateway(folder, host, rounds)
    try:
        gateway.says("boards join at")
        yield gateway
    finally:
        gateway.stop()


def paste(start: Callable[[str], Command], gateway: Gateway, options: str = "") -> Command:
    """Pastes the gateway's line on a board, where `start` starts it; waits until it waits for approval."""
    line = gateway.operator("token", "--device", DEVICE, "--valid-min", "60").strip()
    pasted = start(f"{line} {options}".strip())
    pasted.says("(waits for approval)")
    return pasted


def approve(gateway: Gateway, pasted: Command) -> str:
    """Lets the board in that shows the same fingerprint; what its installer said in all."""
    fingerprint = pasted.says(r"fingerprint  (\S+)\n")
    waiting = gateway.operator("requests")
    assert waiting.count(DEVICE) == waiting.count(fingerprint) == 1
    assert fingerprint in gateway.operator("approve", DEVICE)
    said = pasted.ends()
    assert f"{DEVICE} is a member of the fleet" in said
    assert "OK" in said.partition("\n")[0], "the checksum in the line is what was fetched"
    return said
