"""Runs jobs in worker processes, several at a time, and keeps every result as soon as it is there."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import cache
from .durations import Durations
from .jobs import WORKER, AnyLine, Done, Job, Step, Worker
from .progress import Screen, Status, finished_line, live_line, title
from .record import Result

LIVE_EVERY_S = 1.0


@dataclass(frozen=True)
class Means:
    """What runs may use: worker processes at a time, and the monotonic time at which they should be over."""

    workers: int
    end_s: float = math.inf
    command: tuple[str, ...] = WORKER


@dataclass(frozen=True)
class Outcome:
    """What became of a series of jobs. `results` are all that there are, by key; `left` was not started in time."""

    results: Mapping[str, Result]
    failed: Mapping[str, str] = field(default_factory=dict)
    """Which run it is and why, by key."""
    left: tuple[Job, ...] = ()


def run_jobs(jobs: Sequence[Job], results: Mapping[str, Result], folder: Path, means: Means, screen: Screen) -> Outcome:
    """Does the `jobs` that have no result among `results` (by key) and keeps theirs in `folder`.

    A job that fails, or whose worker is killed, is told and left behind. Where the workers are ended before, by Ctrl-C
    for instance, their runs are lost; finished ones are kept.

    Raises:
        StoreError: a result cannot be written.
        KeyboardInterrupt: as it came; the workers are gone.
    """
    series = _Series(jobs, results, folder, means, screen)
    try:
        series.fill()
        while series.running:
            series.wait()
            series.fill()
    finally:
        series.stop()
    return Outcome(series.results, series.failed, tuple(series.pending))


class _Series:
    """Jobs on their way from `pending` over `running` to `results` or `failed`."""

    def __init__(
        self, jobs: Sequence[Job], results: Mapping[str, Result], folder: Path, means: Means, screen: Screen
    ) -> None:
        self.results = dict(results)
        self.failed: dict[str, str] = {}
        self.running: list[Worker] = []
        self.pending = list({job.run.key: job for job in jobs if job.run.key not in results}.values())
        self._total = len({job.run.key for job in jobs})
        self._folder, self._means, self._screen = folder, means, screen
        self._durations = Durations(results.values())
        self._said: queue.SimpleQueue[tuple[Worker, AnyLine]] = queue.SimpleQueue()

    def fill(self) -> None:
        """Starts jobs until all workers are busy or no job fits into the time."""
        while len(self.running) < self._means.workers and (job := self._next()) is not None:
            self.pending.remove(job)
            self.running.append(Worker(job, self._said, self._means.command))

    def wait(self) -> None:
        """Takes what the next worker says, or shows that time passes."""
        try:
            worker, line = self._said.get(timeout=LIVE_EVERY_S)
        except queue.Empty:
            pass
        else:
            self._take(worker, line)
        self._screen.live(live_line(self._status(), [_where(worker) for worker in self.running]))

    def stop(self) -> None:
        """Ends all workers."""
        for worker in self.running:
            worker.stop()
        self._screen.live("")

    def _next(self) -> Job | None:
        room_s = self._means.end_s - time.monotonic()
        return next((job for job in self.pending if (self._durations.expected_s(job.run) or 0) < room_s), None)

    def _take(self, worker: Worker, line: AnyLine) -> None:
        if isinstance(line, Step):
            worker.step = line
            return
        self.running.remove(worker)
        worker.stop()
        if isinstance(line, Done):
            self._keep(line.result, worker.elapsed_s)
        else:
            self.failed[worker.job.run.key] = f"{title(worker.job.run)}: {line.reason}"
            self._screen.line(f"failed: {self.failed[worker.job.run.key]}")

    def _keep(self, result: Result, wall_s: float) -> None:
        cache.save(self._folder, result)
        self.results[result.run.key] = result
        self._durations.add(result.run, wall_s)
        self._screen.line(finished_line(self._status(), result, wall_s))

    def _status(self) -> Status:
        over = self._total - len(self.pending) - len(self.running)
        runs = [job.run for job in self.pending]
        spent_s = {worker.job.run: worker.elapsed_s for worker in self.running}
        return Status(over, self._total, self._durations.left_s(runs, spent_s, self._means.workers))


def _where(worker: Worker) -> str:
    step = worker.step
    if step is None:
        return f"{title(worker.job.run)} starting"
    accuracy = "" if step.accuracy is None else f" accuracy {step.accuracy:.3f}"
    return f"{title(worker.job.run)} round {step.round}/{step.rounds}{accuracy}"
