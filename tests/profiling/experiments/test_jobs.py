"""Real worker processes, with runs that are over at once or end badly."""

from __future__ import annotations

import queue
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from profiling.experiments.jobs import AnyLine, Done, Failure, Step, Worker
from tests.experiments import BREAKS, COMMAND, DIES, FAILS, HANGS, make_job, make_result, make_run, score

PATIENCE_S = 60.0
"""When a test that waits for something gives up."""


def start(folder: Path, seed: int, command: Sequence[str] = COMMAND) -> tuple[Worker, queue.SimpleQueue]:
    said: queue.SimpleQueue[tuple[Worker, AnyLine]] = queue.SimpleQueue()
    return Worker(make_job(folder, seed=seed), said, command), said


def lines(folder: Path, seed: int, command: Sequence[str] = COMMAND) -> list[AnyLine]:
    """Everything that a worker says."""
    worker, said = start(folder, seed, command)
    heard = [said.get(timeout=PATIENCE_S)]
    while isinstance(heard[-1][1], Step):
        heard.append(said.get(timeout=PATIENCE_S))
    worker.stop()
    assert said.empty() and all(one is worker for one, _ in heard)
    return [line for _, line in heard]


def test_a_worker_tells_its_steps_and_its_result(tmp_path: Path) -> None:
    run = make_run(seed=3)
    assert lines(tmp_path, 3) == [Step(1, 6, None), Done(make_result(run, score(run), 0.1))]


@pytest.mark.parametrize(
    ("seed", "reason"),
    [(FAILS, "no data in ag_news"), (DIES, "killed by signal 9"), (BREAKS, "nobody thought of this")],
    ids=["fails", "dies", "breaks"],
)
def test_a_run_that_ends_badly_says_why(tmp_path: Path, seed: int, reason: str) -> None:
    said = lines(tmp_path, seed)[-1]
    assert isinstance(said, Failure) and reason in said.reason


def test_a_worker_that_is_gone_before_it_has_its_job_is_a_failure(tmp_path: Path) -> None:
    (said,) = lines(tmp_path, 0, (sys.executable, "-c", "import os; os.close(0); os._exit(7)"))
    assert isinstance(said, Failure) and "status 7" in said.reason


def test_what_a_library_prints_is_no_result(tmp_path: Path) -> None:
    (said,) = lines(tmp_path, 0, (sys.executable, "-c", "print('hello')"))
    assert isinstance(said, Failure) and "status 0 and no result" in said.reason


def test_a_stopped_worker_is_gone(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    worker, said = start(tmp_path, HANGS)
    assert isinstance(said.get(timeout=PATIENCE_S)[1], Step)
    worker.stop()
    assert set(psutil.Process().children()) <= before
    assert worker.elapsed_s > 0
