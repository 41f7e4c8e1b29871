"""`rankfleet experiment` with real workers on the tiny pack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from deploy.cli.main import main
from tests.experiments import write_dataset
from tests.models import tiny_pack

PATIENCE_S = 120.0
CONFIG = """
pack = {pack}
datasets = ["data"]
cache = "cache"
alphas = [1.0]
seeds = {seeds}
methods = [{{ name = "fedlora", extras = ["short"] }}]
[profile]
rounds = 2
clients = 2
cohort = 2
depth = 1
[extras.short]
training = {{ local_steps = 1, max_tokens = 8 }}
ranks = {{ warmup_rounds = 0, final_rounds = 1 }}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_dataset(tmp_path / "data")
    return write_config(tmp_path, [0])


def write_config(folder: Path, seeds: list[int]) -> Path:
    text = CONFIG.format(pack=json.dumps(str(tiny_pack())), seeds=seeds)
    (folder / "config.toml").write_text(text, encoding="utf-8")
    return folder / "config.toml"


def write_sweep(config: Path) -> Path:
    """A sweep around `config`."""
    text = config.read_text(encoding="utf-8")
    head, _, tables = text.partition("[profile]")
    tables = f"[profile]{tables}".replace("[profile]", "[experiment.profile]").replace("[extras", "[experiment.extras")
    sweep = config.with_name("sweep.toml")
    sweep.write_text(f'[experiment]\n{head}{tables}[sweep.factors]\n"ranks.initial" = [2]\n', encoding="utf-8")
    return sweep


def test_a_finished_experiment_is_reported_and_not_run_again(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "run", str(config), "--jobs", "1"]) == 0
    assert "[1/1] fedlora+short data alpha 1 seed 0" in capsys.readouterr().err
    assert main(["experiment", "run", str(config)]) == 0
    assert capsys.readouterr().err == ""
    assert main(["experiment", "run", str(config), "--dry-run"]) == 0
    assert "grid: 1 runs, 1 of them in the cache" in capsys.readouterr().out
    sweep = write_sweep(config)
    assert main(["experiment", "sweep", str(sweep), "--json", "--jobs", "1"]) == 0
    (effect,) = json.loads(capsys.readouterr().out)["effects"]
    assert (effect["setting"], effect["value"], effect["base"]) == ("ranks.initial", "2", "8")
    more = config.with_name("more.toml")
    more.write_text('base = "config.toml"\n', encoding="utf-8")
    assert main(["experiment", "report", str(config), str(more), "--sweep", str(sweep)]) == 0
    paths = capsys.readouterr().out.split()
    assert paths == [str(config.parent / "report" / name) for name in ("report.html", "results.md", "results.json")]
    figures = json.loads(Path(paths[2]).read_text(encoding="utf-8"))
    assert [(row["method"], row["seeds"]) for row in figures["rows"]] == [("fedlora", 1)], (
        "a run that both name counts once"
    )


def test_ctrl_c_ends_the_workers_and_the_same_command_goes_on(config: Path) -> None:
    write_config(config.parent, list(range(20)))
    command = [sys.executable, "-m", "deploy.cli.main", "experiment", "run", str(config), "--jobs", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("[1/20]"), first + process.stderr.read()
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 130 and not psutil.wait_procs(children, timeout=PATIENCE_S)[1]
    assert len(list((config.parent / "cache").glob("*.json"))) in range(1, 20)
    assert main(["experiment", "run", str(config), "--limit-s", "1"]) == 0


def test_a_run_that_fails_makes_the_exit_status(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = config.read_text(encoding="utf-8").replace("clients = 2", "clients = 900").replace("[1.0]", '["client"]')
    config.write_text(text, encoding="utf-8")
    assert main(["experiment", "run", str(config)]) == 1
    assert "1 runs failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [("fedlora", "fedlra", "fedlra"), ('["data"]', '["nothing"]', "nothing"), ('"short"', '"long"', "long")],
)
def test_what_is_wrong_with_a_configuration_is_told(
    config: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, named: str
) -> None:
    config.write_text(config.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    assert main(["experiment", "run", str(config)]) == 1
    assert named in capsys.readouterr().err


def test_a_report_without_results_says_what_to_do(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiment", "report", str(config)]) == 1
    assert "rankfleet experiment run" in capsys.readouterr().err
