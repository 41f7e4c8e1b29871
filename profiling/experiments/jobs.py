"""Jobs: what the runner has a worker process do, and how the two talk.

The runner starts `python -m profiling.experiments.worker`, writes one job as a line of JSON to its standard input and
reads lines of JSON from its standard output: any number of `Step`, then one `Done` or `Failure`. The standard input
stays open: its end tells the worker that the runner is gone.
"""

from __future__ import annotations

import logging
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import IO

import msgspec

from edge_agent.jobs import trainer_environment
from edge_agent.wire.malformed import MALFORMED

from .record import Result
from .settings import Run

LOGGER = logging.getLogger("rankfleet.experiments")
WORKER = (sys.executable, "-m", "profiling.experiments.worker")


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A run, and where on this machine its pack, its data and its cache are."""

    run: Run
    pack: str
    dataset: str
    """Name of a fetched data set, or folder."""
    cache: str
    """Folder that runs share."""


class Line(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of what a worker says."""


class Step(Line, frozen=True, tag="step"):
    """A round is over; `accuracy` where it was evaluated."""

    round: int
    rounds: int
    accuracy: float | None


class Done(Line, frozen=True, tag="done"):
    """The run is over."""

    result: Result


class Failure(Line, frozen=True, tag="failure"):
    """The run could not be done."""

    reason: str


AnyLine = Step | Done | Failure
_LINE = msgspec.json.Decoder(AnyLine)


class Worker:
    """A process that does one job. What it says arrives in `said`, ending with one `Done` or `Failure`."""

    def __init__(self, job: Job, said: queue.SimpleQueue[tuple[Worker, AnyLine]], command: Sequence[str]) -> None:
        self.job = job
        self.step: Step | None = None
        self._started_s = time.monotonic()
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=trainer_environment(1),
            start_new_session=True,  # Ctrl-C reaches the runner alone, which then ends it
        )
        self._listener = threading.Thread(target=self._listen, args=(said,), daemon=True)
        self._listener.start()

    @property
    def elapsed_s(self) -> float:
        """Since its start."""
        return time.monotonic() - self._started_s

    def stop(self) -> None:
        """Ends the process if it still runs; what it had not finished is lost."""
        self._process.kill()
        self._listener.join()
        self._errors.close()

    def _listen(self, said: queue.SimpleQueue[tuple[Worker, AnyLine]]) -> None:
        outcome: AnyLine | None = None
        for line in self._lines():
            if isinstance(line, Step):
                said.put((self, line))
            else:
                outcome = line
        status = self._process.wait()
        said.put((self, outcome or Failure(_reason(status, self._errors))))

    def _lines(self) -> Iterator[AnyLine]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError("started with pipes")
        with suppress(BrokenPipeError), stdin, stdout:  # of one that died at once: its exit status says so
            stdin.write(msgspec.json.encode(self.job) + b"\n")
            stdin.flush()
            for line in stdout:
                try:
                    yield _LINE.decode(line)
                except MALFORMED:
                    LOGGER.warning("a worker printed %r", line)  # a library's word, not the job's result


def _reason(status: int, errors: IO[bytes]) -> str:
    if status < 0:
        return f"the worker was killed by signal {-status}; if that is 9, the system may have run out of memory"
    errors.seek(0)
    text = errors.read().decode(errors="replace").strip()
    LOGGER.error("a worker ended with status %d: %s", status, text)
    last = text.rpartition("\n")[2]
    return f"the worker ended with status {status} and no result: {last}"
