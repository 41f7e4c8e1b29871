"""Worker processes as the parent sees them: started, stepped, ended; only one computes at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from edge_agent.jobs import trainer_environment
from edge_agent.wire.errors import RankfleetError

from .spec import AnySpec, Done
from .worker import QUIT, STEP

QUIT_WITHIN_S = 30.0
Wrap = Callable[[Sequence[str]], Sequence[str]]
"""From the worker's command to the one that is run."""


class LiveWorker:
    """A worker that has made its first step. `start_s` is the time from its spawn to the end of that step.

    Raises:
        RankfleetError: it ended without having made it.
    """

    def __init__(self, spec: AnySpec, wrap: Wrap = list) -> None:
        self.spec = spec
        command = [sys.executable, "-m", "profiling.bench.worker", msgspec.json.encode(spec).decode()]
        start_s = time.perf_counter()
        self._process = subprocess.Popen(
            wrap(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(spec.work.threads),
        )
        self.first = self._answer()
        self.start_s = time.perf_counter() - start_s

    def step(self) -> Done:
        """Another step.

        Raises:
            RankfleetError: the worker ended.
        """
        self._say(STEP)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._say(QUIT)
        try:
            self._process.wait(QUIT_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, command: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the answer that does not come says so

    def _answer(self) -> Done:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            reason = f"killed by signal {-code} (9: out of memory)" if code < 0 else f"ended with status {code}"
            raise RankfleetError(f"the worker of {self.spec.mode!r} was {reason}: what it printed stands above")
        return msgspec.json.decode(line, type=Done)


def _environment(threads: int) -> dict[str, str]:
    """As for an agent's trainer; idle workers wait without spinning, and transformers says errors only."""
    return {
        **trainer_environment(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }
