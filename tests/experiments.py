"""Runs and results that nobody computed, a configuration, and workers whose runs are over at once."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import msgspec

from deploy.datasets import write_jsonl
from edge_agent.data import Example
from edge_agent.wire.errors import DataError
from profiling.experiments.jobs import Job
from profiling.experiments.plan import Materials
from profiling.experiments.progress import Screen
from profiling.experiments.record import Result, RoundResult
from profiling.experiments.settings import Experiment, MethodEntry, Options, Profile, Run
from profiling.experiments.worker import Say, main

COMMAND = (sys.executable, "-m", "tests.experiments")
"""Starts a worker that computes by `execute`."""
FAILS, HANGS, DIES, BREAKS, DIVERGES = 900, 901, 902, 903, 904
"""Seeds of runs that do not end well."""
METHODS = ("fedara", "fedlora")
RATES = (1e-3, 3e-3, 1e-2)
MATERIALS = Materials("tiny", "a" * 64, {"ag_news": "b" * 64, "banking77": "c" * 64})


def make_run(**changes: object) -> Run:
    profile = Profile(rounds=6, clients=4, cohort=2)
    run = Run("tiny", "a" * 64, "ag_news", "b" * 64, 0.1, 0, "fedara", "", Options(), profile)
    return msgspec.structs.replace(run, **changes)


def make_result(run: Run, accuracy: float = 0.5, wall_s: float = 60.0, loss: float = 1.0) -> Result:
    count = run.profile.rounds
    rounds = tuple(
        RoundResult(number, 1000, 2000, loss, accuracy if number == count else None, None, None, (2,))
        for number in range(1, count + 1)
    )
    return Result(run, ("query",), 0.1, rounds, wall_s, "2026-01-01", "0")


def make_job(folder: Path, **changes: object) -> Job:
    return Job(make_run(**changes), str(folder), "ag_news", str(folder))


def make_experiment(folder: Path, **changes: object) -> Experiment:
    experiment = Experiment(
        pack=folder / "pack",
        datasets=("ag_news", "banking77"),
        cache=folder / "cache",
        methods=tuple(map(MethodEntry, METHODS)),
        alphas=(1.0, 0.01),
        seeds=(0, 1),
        learning_rates=RATES,
        profile=make_run().profile,
    )
    return msgspec.structs.replace(experiment, **changes)


def make_screen() -> tuple[Screen, Callable[[], list[str]]]:
    """A screen that is no terminal, and what it shows."""
    stream = StringIO()
    return Screen(stream), lambda: stream.getvalue().splitlines()


def write_dataset(folder: Path, examples: int = 30) -> None:
    """Texts for the tiny pack, whose words tell the class."""
    folder.mkdir()
    rows = [Example(f"word{i % 3} word{10 + i % 3} word{20 + i % 7}", f"class {i % 3}") for i in range(examples)]
    for part in ("train", "test"):
        write_jsonl(folder / f"{part}.jsonl", rows)


def score(run: Run) -> float:
    """An accuracy that tells settings apart: best at the middle rate and with many ranks, each method its own."""
    own = int.from_bytes(hashlib.sha256(f"{run.method} {run.seed}".encode()).digest()[:1], "big") / 25600
    return 0.5 + own + 0.05 * (run.options.training.lr == RATES[1]) + 0.02 * run.options.ranks.target


def execute(run: Run, pack: Path, dataset: str, cache: Path, say: Say) -> Result:
    """Takes no time; some seeds fail in the ways that runs can."""
    say(1, run.profile.rounds, None)
    if run.seed == HANGS:
        time.sleep(600)
    if run.seed == DIES:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.seed == FAILS:
        raise DataError(f"no data in {dataset}")
    if run.seed == BREAKS:
        raise ZeroDivisionError("nobody thought of this")
    return make_result(run, score(run), 0.1, float("nan") if run.seed == DIVERGES else 1.0)


if __name__ == "__main__":
    sys.exit(main(execute))
