"""Series of runs in real worker processes."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from edge_agent.wire.errors import StoreError
from profiling.experiments import cache
from profiling.experiments.jobs import Job
from profiling.experiments.record import Result
from profiling.experiments.runner import Means, Outcome, run_jobs
from tests.experiments import BREAKS, COMMAND, DIES, FAILS, HANGS, make_job, make_result, make_run, make_screen

MEANS = Means(workers=2, command=COMMAND)
PATIENCE_S = 60.0


def jobs_of(folder: Path, *seeds: int) -> list[Job]:
    return [make_job(folder, seed=seed) for seed in seeds]


def run(folder: Path, jobs: list[Job], means: Means = MEANS) -> tuple[Outcome, list[str]]:
    screen, shown = make_screen()
    return run_jobs(jobs, cache.load_all(folder, pytest.fail), folder, means, screen), shown()


def seeds_in(results: dict[str, Result]) -> set[int]:
    return {result.run.seed for result in results.values()}


def test_finished_runs_are_kept_and_not_run_again(tmp_path: Path) -> None:
    outcome, shown = run(tmp_path, jobs_of(tmp_path, 0, 1, 1))
    assert cache.load_all(tmp_path, pytest.fail) == outcome.results
    assert seeds_in(outcome.results) == {0, 1} and not outcome.failed and not outcome.left
    assert [line.split()[0] for line in shown] == ["[1/2]", "[2/2]"]
    again, shown = run(tmp_path, jobs_of(tmp_path, 0, 1))
    assert again.results == outcome.results and shown == []


def test_runs_that_fail_are_told_and_the_others_go_on(tmp_path: Path) -> None:
    outcome, shown = run(tmp_path, jobs_of(tmp_path, FAILS, DIES, BREAKS, 5))
    assert seeds_in(outcome.results) == {5}
    assert {make_run(seed=seed).key for seed in (FAILS, DIES, BREAKS)} == outcome.failed.keys()
    assert sum(line.startswith("failed: fedara") for line in shown) == 3
    assert "no data in ag_news" in outcome.failed[make_run(seed=FAILS).key]


def test_a_worker_that_somebody_kills_fails_alone(tmp_path: Path) -> None:
    def kill_the_hanging() -> None:
        limit_s = time.monotonic() + PATIENCE_S
        while len(cache.load_all(tmp_path, pytest.fail)) < 2 and time.monotonic() < limit_s:
            time.sleep(0.05)
        for child in psutil.Process().children():
            child.kill()

    threading.Thread(target=kill_the_hanging, daemon=True).start()
    outcome, _ = run(tmp_path, jobs_of(tmp_path, HANGS, 0, 1))
    assert seeds_in(outcome.results) == {0, 1}
    assert "signal 9" in outcome.failed[make_run(seed=HANGS).key]


def test_an_interruption_ends_the_workers_and_keeps_what_was_finished(tmp_path: Path) -> None:
    def interrupt_when_one_is_over() -> None:
        limit_s = time.monotonic() + PATIENCE_S
        while not cache.load_all(tmp_path, pytest.fail) and time.monotonic() < limit_s:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    before = set(psutil.Process().children())
    threading.Thread(target=interrupt_when_one_is_over, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, jobs_of(tmp_path, HANGS, 0, HANGS + 1000))
    assert seeds_in(cache.load_all(tmp_path, pytest.fail)) >= {0}
    assert set(psutil.Process().children()) <= before


def test_no_run_starts_that_would_not_end_in_time(tmp_path: Path) -> None:
    known = make_result(make_run(seed=50), wall_s=1e6)
    quick = make_result(make_run(seed=51, method="fedlora"), wall_s=0.0)
    for result in (known, quick):
        cache.save(tmp_path, result)
    jobs = [make_job(tmp_path, seed=0), make_job(tmp_path, seed=0, method="fedlora")]
    outcome, _ = run(tmp_path, jobs, Means(1, time.monotonic() + 1000, COMMAND))
    assert [job.run.method for job in outcome.left] == ["fedara"]
    assert make_run(seed=0, method="fedlora").key in outcome.results


def test_nothing_starts_when_the_time_is_over(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, jobs_of(tmp_path, 0), Means(1, -math.inf, COMMAND))
    assert len(outcome.left) == 1 and not outcome.results


def test_a_cache_that_cannot_be_written_ends_the_series(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("", encoding="utf-8")
    screen, _ = make_screen()
    with pytest.raises(StoreError, match="taken"):
        run_jobs(jobs_of(tmp_path, 0), {}, tmp_path / "taken", MEANS, screen)
