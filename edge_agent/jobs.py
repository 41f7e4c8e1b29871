"""Jobs: what the resident supervisor has the short-lived trainer process do, and how the two talk.

The supervisor starts `python -m edge_agent.trainer_process`, writes one job as a line of JSON to its standard input
and reads lines of JSON from its standard output: any number of `Step` and `Recorded`, then one `Result` or `Failure`.
When the process ends, all of its memory goes back to the system; when it is killed, the agent lives and starts it
again.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time

import msgspec

from edge_agent import procfs
from edge_agent.config import EngineName, TorchDevice
from edge_agent.service.patience import Patience
from edge_agent.spans import Span
from edge_agent.wire import messages as m
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.pack import Products

LOGGER = logging.getLogger("rankfleet.agent")
_POISON = b""
STOP_AFTER_S = 5.0
LOOK_EVERY_S = 1.0


class Terms(msgspec.Struct, frozen=True):
    """What every job needs: the fleet's terms and the agent's own settings. Paths as text."""

    device: str
    welcome: m.Welcome
    pack_dir: str
    store: str
    data: str
    """As configured: a file, a folder or an entry point."""
    holdout_share: float
    threads: int
    budget_bytes: int
    supervisor_bytes: int
    """Anonymous memory of the supervisor."""
    supervisor_peak_rss_bytes: int
    engine: EngineName = "onnx"
    torch_device: TorchDevice = "cuda"
    products: Products = "float32"
    prefix_limit_bytes: int = 0
    checkpoint_s: float = 0.0
    """Seconds of training between checkpoints; 0 for none."""
    data_path: str | None = None
    """Where the module of an entry point is looked for first."""
    records: bool = False
    """Whether the supervisor wants to know what every phase used."""


class Job(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of all jobs."""

    terms: Terms


class MeasureJob(Job, frozen=True, tag="measure"):
    """Read the data; measure the device unless a capability is already known."""

    link_bytes_per_s: int
    known: m.Capability | None


class TrainJob(Job, frozen=True, tag="train"):
    """One round: bring the state to the plan's version, train, leave the update in the outbox."""

    plan: m.Plan
    deltas: tuple[str, ...]
    capability: m.Capability


class FinalJob(Job, frozen=True, tag="final"):
    """Bring the state to the final version and check it on the hold-out."""

    final: m.Final
    deltas: tuple[str, ...]
    capability: m.Capability


AnyJob = MeasureJob | TrainJob | FinalJob


class Line(msgspec.Struct, frozen=True, tag_field="kind"):
    """Base of what the trainer process says."""


class Step(Line, frozen=True, tag="step"):
    """Progress of a round."""

    phase: str
    step: int
    steps: int
    loss: float


class Recorded(Line, frozen=True, tag="recorded"):
    """A phase of the job is over."""

    span: Span


class MeasureResult(Line, frozen=True, tag="measured"):
    """What `MeasureJob` found."""

    examples: int
    holdout: int
    longest_tokens: int
    capability: m.Capability


class TrainResult(Line, frozen=True, tag="trained"):
    """The update is in the outbox."""

    round: int


class FinalResult(Line, frozen=True, tag="finished"):
    """The final state is in the store."""

    version: int
    correct: int
    total: int


class Failure(Line, frozen=True, tag="failure"):
    """The job could not be done, for a reason that a person can act on."""

    reason: str
    smallest_budget_bytes: int | None = None
    killed: bool = False
    """By a signal: the same job may well succeed when it is started again."""
    told: str | None = None
    """What the coordinator may know of the reason, where that is not all of it."""


AnyLine = Step | Recorded | MeasureResult | TrainResult | FinalResult | Failure
_LINE = msgspec.json.Decoder(AnyLine)


class Runner:
    """One trainer process at a time; the caller polls for what it says."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._patience = Patience(0.0)
        self._looked_s = 0.0

    def start(self, job: AnyJob) -> None:
        """Starts `job`; a job that still runs is stopped first. One that cannot be started becomes a `Failure`."""
        self.stop()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent.trainer_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=trainer_environment(job.terms.threads),
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then ends it
            )
        except OSError as error:
            failure = Failure(f"the trainer process cannot be started: {error}; free memory on this device")
            self._lines.put(msgspec.json.encode(failure))
            return
        self._patience = Patience(time.monotonic())
        threading.Thread(target=_feed, args=(self._process, job, self._lines), daemon=True).start()

    def poll(self) -> AnyLine | None:
        """The next line of the running job, None if there is none yet. A `Failure` if the process died, or hung."""
        try:
            line = self._lines.get_nowait()
        except queue.Empty:
            return self._hung()
        if line == _POISON:
            return self._ended()
        try:
            decoded = _LINE.decode(line)
        except MALFORMED:
            # A library's word, not the job's result; and not repeated, for it may hold a text.
            LOGGER.warning("the trainer process printed %d bytes that are no result", len(line))
            return None
        if isinstance(decoded, Step):
            self._patience.heard(decoded.step, decoded.steps, time.monotonic())
        elif not isinstance(decoded, Recorded):
            self._reap()
        return decoded

    def stop(self) -> None:
        """Stops the running job, if any; what it had not yet committed is gone."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def _hung(self) -> Failure | None:
        """Ends a process that hangs (see `service.patience`); the same job may go well the next time."""
        now_s = time.monotonic()
        if self._process is None or now_s - self._looked_s < LOOK_EVERY_S:
            return None
        self._looked_s = now_s
        try:
            reason = self._patience.lost(procfs.cpu_s(self._process.pid), now_s)
        except OSError:  # it has just ended, which its output will say; or there is no /proc
            return None
        if reason is None:
            return None
        self.stop()
        return Failure(f"the trainer process hung ({reason}) and was ended", killed=True)

    def _ended(self) -> Failure:
        code = self._reap()
        if code < 0:
            memory = code == -signal.SIGKILL
            why = "as where memory runs out: lower memory.budget_bytes" if memory else "the log may say why"
            return Failure(f"the trainer process was killed by signal {-code}, {why}", killed=True)
        return Failure(f"the trainer process ended with status {code} and no result; its traceback is in the log")

    def _reap(self) -> int:
        """Ends the job: its exit status, and nothing more of what it says."""
        process, self._process = self._process, None
        self._lines = queue.SimpleQueue()
        if process is None:
            return 0
        try:
            return process.wait(STOP_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _feed(process: subprocess.Popen[bytes], job: AnyJob, lines: queue.SimpleQueue[bytes]) -> None:
    """Hands the job over and passes on every line, then `_POISON`."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("started with pipes")
    try:
        process.stdin.write(msgspec.json.encode(job) + b"\n")
        process.stdin.flush()  # and left open: its end tells the trainer that the supervisor is gone
    except BrokenPipeError:
        pass  # it died at once: the end of its output says so
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(_POISON)


def trainer_environment(threads: int) -> dict[str, str]:
    """The trainer's environment: BLAS libraries size their thread pools, and buffers, by it."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        "PYTHONUNBUFFERED": "1",
    }
