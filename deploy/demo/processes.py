"""The demo's processes: one coordinator, one agent a device. None outlives the demo."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from coordinator import events
from deploy.demo.layout import Device, Files
from edge_agent.wire.errors import RankfleetError

_EVENT = msgspec.json.Decoder(events.AnyEvent)
STOP_S = 10.0
POLL_S = 0.2
_LOG_TAIL_LINES = 8


class Fleet:
    """All processes of a demo, started on entry and ended on exit, whatever happens in between."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __enter__(self) -> Fleet:
        log = self._files.out / "coordinator.log"
        self._coordinator = _start(["coordinator", "run", str(self._files.coordinator), "--json"], log)
        threading.Thread(target=self._read, args=(self._coordinator,), daemon=True).start()
        for device in self._files.devices:
            self._agents[device.name] = _start(["agent", "run", str(device.config)], device.log, quiet=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        processes = [*self._agents.values(), *filter(None, [self._coordinator])]
        for process in processes:
            process.terminate()
        deadline_s = time.monotonic() + STOP_S
        for process in processes:
            _end(process, deadline_s)

    def events(self) -> Iterator[events.Watched]:
        """What the coordinator tells, until it ends.

        Raises:
            RankfleetError: a process failed; quotes the end of its log.
        """
        while True:
            self._check_agents()
            try:
                line = self._lines.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if line is None:
                break
            yield _EVENT.decode(line)
        self._check_ends()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _check_agents(self) -> None:
        for device in self._files.devices:
            code = self._agents[device.name].poll()
            if code:
                raise _failed(f"agent {device.name}", code, device.log)

    def _check_ends(self) -> None:
        assert self._coordinator is not None
        code = self._coordinator.wait(STOP_S)
        if code:
            raise _failed("the coordinator", code, self._files.out / "coordinator.log")
        for device in self._files.devices:
            self._check_end(device)

    def _check_end(self, device: Device) -> None:
        try:
            code = self._agents[device.name].wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise RankfleetError(f"agent {device.name} did not end; see {device.log}") from error
        if code:
            raise _failed(f"agent {device.name}", code, device.log)


def _start(arguments: list[str], log: Path, *, quiet: bool = False) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            stdout=file if quiet else subprocess.PIPE,
            stderr=file,
            start_new_session=True,  # Ctrl-C reaches the demo alone, which then ends its processes in order
        )


def _end(process: subprocess.Popen[bytes], deadline_s: float) -> None:
    try:
        process.wait(max(0.0, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failed(who: str, code: int, log: Path) -> RankfleetError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    quoted = "\n".join(f"    {line}" for line in lines)
    return RankfleetError(f"{who} failed with status {code}; the end of {log}:\n{quoted}")
