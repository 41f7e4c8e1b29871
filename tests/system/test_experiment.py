"""An experiment that is killed goes on where it was, and its report says what its cache holds."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest

from profiling.experiments.record import Result
from tests.experiments import write_dataset
from tests.models import tiny_pack

PATIENCE_S = 250.0
METHODS, SEEDS = ("fedlora", "rankfleet"), (0, 1)
RUNS = len(METHODS) * len(SEEDS)
CONFIG = f"""
datasets = ["data"]
cache = "cache"
alphas = [0.1]
seeds = {list(SEEDS)}
methods = [{{ name = "{METHODS[0]}" }}, {{ name = "{METHODS[1]}" }}]
[profile]
rounds = 4
clients = 4
cohort = 2
depth = 1
[settings]
training = {{ local_steps = 2, max_tokens = 8 }}
ranks = {{ initial = 4, warmup_rounds = 0, final_rounds = 1 }}
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data")
    text = f"pack = {json.dumps(str(tiny_pack()))}\n{CONFIG}"
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return tmp_path / "config.toml"


def experiment(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "deploy.cli.main", "experiment", *map(str, arguments)]


def kill_after_the_first_run(command: Sequence[str]) -> None:
    """Kills the experiment, which cannot say farewell to its worker: that ends by itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith(f"[1/{RUNS}]"), first + process.stderr.read()
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    assert not psutil.wait_procs(workers, timeout=PATIENCE_S)[1]


def read_cache(folder: Path) -> dict[str, Result]:
    return {path.name: msgspec.json.decode(path.read_bytes(), type=Result) for path in sorted(folder.glob("*.json"))}


def file_identities(folder: Path) -> dict[str, tuple[int, int]]:
    """A file that was written again is another file."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.json")}


def test_after_a_kill_finished_runs_are_not_run_again_and_the_report_is_of_all(config: Path) -> None:
    cache, run = config.parent / "cache", experiment("run", config, "--jobs", "1")
    kill_after_the_first_run(run)
    kept = file_identities(cache)
    assert 1 <= len(kept) < RUNS
    again = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert again.returncode == 0, again.stderr
    assert len([line for line in again.stderr.splitlines() if line.startswith("[")]) == RUNS - len(kept)
    assert kept.items() <= file_identities(cache).items()
    report = subprocess.run(
        experiment("report", config), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert report.returncode == 0 and not report.stderr, report.stderr
    assert_reported(config.parent / "report", list(read_cache(cache).values()))


def assert_reported(folder: Path, results: Sequence[Result]) -> None:
    rows = {row["method"]: row for row in json.loads((folder / "results.json").read_bytes())["rows"]}
    assert rows.keys() == set(METHODS) and len(results) == RUNS
    for method, row in rows.items():
        own = [result for result in results if result.run.method == method]
        assert (row["dataset"], row["alpha"], row["seeds"], row["rounds"]) == ("data", 0.1, len(SEEDS), 4)
        assert row["accuracy_mean"] == pytest.approx(statistics.mean(result.accuracy for result in own))
        assert row["bytes_total"] == pytest.approx(statistics.mean(result.bytes_total for result in own))
        assert method in (folder / "results.md").read_text(encoding="utf-8")
        assert method in (folder / "report.html").read_text(encoding="utf-8")
