"""The demo's processes: one coordinator, one agent a device. None outlives the demo."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from coordinator import events
from deploy.demo.layout import Files
from edge_agent.wire.errors import RankfleetError

_EVENT = msgspec.json.Decoder(events.AnyEvent)
STOP_S = 10.0
POLL_S = 0.2
_LOG_TAIL_LINES = 8


class Fleet:
    """All processes of a demo, started on entry and ended on exit, whatever happens in between.

    Each has a process group of its own, so its children end with it, and Ctrl-C reaches the demo alone.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    def __enter__(self) -> Fleet:
        try:
            self._start_all()
        except BaseException:
            self._end_all()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_all()

    def _start_all(self) -> None:
        log = self._files.out / "coordinator.log"
        self._coordinator = _start(["coordinator", "run", str(self._files.coordinator), "--json"], log)
        threading.Thread(target=self._read, args=(self._coordinator,), daemon=True).start()
        for device in self._files.devices:
            self._agents[device.name] = _start(["agent", "run", str(device.config)], device.log, quiet=True)

    def _end_all(self) -> None:
        """In order while there is time, by force after that, or at once on another Ctrl-C."""
        processes = [*self._agents.values(), *filter(None, [self._coordinator])]
        try:
            for process in processes:
                process.terminate()
            deadline_s = time.monotonic() + STOP_S
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline_s - time.monotonic()))
        finally:
            for process in processes:
                _kill_group(process)

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
        _check_end("the coordinator", self._coordinator, self._files.out / "coordinator.log")
        for device in self._files.devices:
            _check_end(f"agent {device.name}", self._agents[device.name], device.log)


def _start(arguments: list[str], log: Path, *, quiet: bool = False) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            stdout=file if quiet else subprocess.PIPE,
            stderr=file,
            start_new_session=True,
        )


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a process and of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _check_end(who: str, process: subprocess.Popen[bytes], log: Path) -> None:
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired as error:
        raise RankfleetError(f"{who} did not end within {STOP_S:.0f} s of the run; see {log}") from error
    if code:
        raise _failed(who, code, log)


def _failed(who: str, code: int, log: Path) -> RankfleetError:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    quoted = "\n".join(f"    {line}" for line in lines)
    return RankfleetError(f"{who} failed with status {code}; the end of {log}:\n{quoted}")
