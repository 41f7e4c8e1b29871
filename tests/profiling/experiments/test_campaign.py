"""Search and grid together."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from edge_agent.wire.errors import ConfigError
from profiling.experiments import cache
from profiling.experiments.campaign import (
    find_rates,
    forecast,
    grid_size,
    named_results,
    run_campaign,
    run_sweep,
    sweep_trials,
)
from profiling.experiments.effects import find_effects
from profiling.experiments.plan import search_jobs
from profiling.experiments.runner import Means, Outcome
from profiling.experiments.settings import Experiment, MethodEntry
from profiling.experiments.sweep import Factors, Sweep
from tests.experiments import COMMAND, FAILS, MATERIALS, RATES, make_experiment, make_result, make_screen, score

MEANS = Means(workers=2, command=COMMAND)


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    return make_experiment(tmp_path, datasets=("ag_news",), alphas=(0.1,), seeds=(0,), learning_rates=RATES[:2])


def finished(experiment: Experiment) -> Outcome:
    """The search, done."""
    runs = [job.run for job in search_jobs(experiment, MATERIALS)]
    return Outcome({run.key: make_result(run, score(run)) for run in runs})


def test_the_grid_is_run_with_the_rates_that_were_found(experiment: Experiment) -> None:
    screen, shown = make_screen()
    outcome = run_campaign(experiment, MATERIALS, {}, MEANS, screen)
    assert "learning rate of fedara: 0.003" in shown()
    results, missing = named_results(experiment, MATERIALS, outcome.results)
    assert missing == 0 and not outcome.failed and not outcome.left
    assert [(one.run.method, one.run.options.training.lr) for one in results] == [("fedara", 3e-3), ("fedlora", 3e-3)]
    assert cache.load_all(experiment.cache, pytest.fail) == outcome.results
    again = run_campaign(experiment, MATERIALS, outcome.results, Means(1, time.monotonic(), COMMAND), screen)
    assert again == outcome


def test_a_search_that_is_not_over_keeps_its_method_out_of_the_grid(experiment: Experiment) -> None:
    screen, _ = make_screen()
    outcome = run_campaign(experiment, MATERIALS, {}, Means(1, time.monotonic(), COMMAND), screen)
    assert len(outcome.left) == 4
    searched = finished(experiment)
    left = tuple(job for job in search_jobs(experiment, MATERIALS) if job.run.method == "fedara")[:1]
    assert [entry.name for entry in find_rates(experiment, MATERIALS, Outcome(searched.results, left=left))] == [
        "fedlora"
    ]


def test_failures_of_search_and_grid_are_both_told(tmp_path: Path) -> None:
    screen, _ = make_screen()
    alike = {"datasets": ("ag_news",), "alphas": (0.1,), "learning_rates": RATES[:1]}
    outcome = run_campaign(make_experiment(tmp_path, seeds=(FAILS, 0), **alike), MATERIALS, {}, MEANS, screen)
    assert len(outcome.failed) == len(outcome.results) == 2
    failing = make_experiment(tmp_path, seeds=(0,), search_seed=FAILS, **{**alike, "learning_rates": RATES})
    assert len(run_campaign(failing, MATERIALS, {}, MEANS, screen).failed) == 6


def test_the_forecast_counts_what_is_missing(experiment: Experiment) -> None:
    assert forecast(experiment, MATERIALS, {}, 2) == [
        "search for learning rates: 4 runs, 4 of them missing",
        "grid: 2 runs, 0 of them in the cache, 2 of methods that have no learning rate yet",
        "runs that can be planned now: 4; time left unknown",
    ]
    assert forecast(experiment, MATERIALS, finished(experiment).results, 2)[1:] == [
        "grid: 2 runs, 0 of them in the cache, 0 of methods that have no learning rate yet",
        "runs that can be planned now: 2; about 1 min 0 s left",
    ]


def test_a_report_needs_a_result(experiment: Experiment) -> None:
    with pytest.raises(ConfigError, match="experiment run"):
        named_results(experiment, MATERIALS, finished(experiment).results)
    assert grid_size(make_experiment(Path())) == 16


def test_a_sweep_uses_the_rate_that_was_found_and_goes_on_where_it_was(experiment: Experiment) -> None:
    one = msgspec.structs.replace(experiment, methods=(MethodEntry("fedara"),))
    sweep = Sweep(one, Factors({"ranks.target": (1.0,)}))
    screen, _ = make_screen()
    outcome, trials = run_sweep(sweep, MATERIALS, {}, MEANS, screen)
    assert [trial.job.run.options.training.lr for trial in trials] == [3e-3, 3e-3]
    (effect,) = find_effects(sweep, trials, outcome.results).effects
    assert effect.accuracy.mean == pytest.approx(-0.02)
    assert sweep_trials(sweep, MATERIALS, Outcome(cache.load_all(one.cache, pytest.fail))) == trials
    late = Means(1, time.monotonic(), COMMAND)
    assert run_sweep(sweep, MATERIALS, outcome.results, late, screen) == (outcome, trials)
    assert run_sweep(sweep, MATERIALS, {}, late, screen)[1] == []
