"""A whole experiment: first every method's learning rate, then the grid, from the cache where it has the result."""

from __future__ import annotations

import math
from collections.abc import Mapping

from edge_agent.wire.errors import ConfigError

from .durations import Durations
from .plan import Materials, find_rate, grid_jobs, rates_of, search_job, search_jobs
from .progress import Screen, time_left
from .record import Result
from .runner import Means, Outcome, run_jobs
from .settings import Experiment, MethodEntry
from .sweep import Sweep, Trial, trials_of


def run_campaign(
    experiment: Experiment, materials: Materials, results: Mapping[str, Result], means: Means, screen: Screen
) -> Outcome:
    """Does what is missing of `experiment`; `results` are those of its cache, by key.

    A method whose search did not come to an end in time is left out of the grid; one whose rates all failed as well.

    Raises:
        StoreError: a result cannot be written.
    """
    searched = search_rates(experiment, materials, results, means, screen)
    rates = find_rates(experiment, materials, searched)
    done = run_jobs(grid_jobs(experiment, materials, rates), searched.results, experiment.cache, means, screen)
    return joined(searched, done)


def search_rates(
    experiment: Experiment, materials: Materials, results: Mapping[str, Result], means: Means, screen: Screen
) -> Outcome:
    """Does what is missing of the search for learning rates, and tells what was found. Raises as `run_campaign`."""
    searched = run_jobs(search_jobs(experiment, materials), results, experiment.cache, means, screen)
    for entry, lr in find_rates(experiment, materials, searched).items():
        if len(rates_of(experiment, entry)) > 1:
            screen.line(f"learning rate of {label(entry)}: {lr:g}")
    return searched


def joined(first: Outcome, second: Outcome) -> Outcome:
    """Of two series, the second of which had the results of the first."""
    return Outcome(second.results, {**first.failed, **second.failed}, (*first.left, *second.left))


def run_sweep(
    sweep: Sweep, materials: Materials, results: Mapping[str, Result], means: Means, screen: Screen
) -> tuple[Outcome, list[Trial]]:
    """Does what is missing of `sweep`, and all its runs: none where the search for the learning rate is not over.

    Raises:
        ConfigError: a value is out of range with the learning rate that was found.
        StoreError: a result cannot be written.
    """
    experiment = sweep.experiment
    searched = search_rates(experiment, materials, results, means, screen)
    trials = sweep_trials(sweep, materials, searched)
    done = run_jobs([one.job for one in trials], searched.results, experiment.cache, means, screen)
    return joined(searched, done), trials


def sweep_trials(sweep: Sweep, materials: Materials, searched: Outcome) -> list[Trial]:
    """All runs of `sweep` with the learning rate that was found. Raises ConfigError as `run_sweep`."""
    rates = find_rates(sweep.experiment, materials, searched)
    return [trial for lr in rates.values() for trial in trials_of(sweep, materials, lr)]


def find_rates(experiment: Experiment, materials: Materials, searched: Outcome) -> dict[MethodEntry, float]:
    """The learning rate of every method that has one: not of those for which there is a run left."""
    left = {job.run.key for job in searched.left}
    rates = {}
    for entry in experiment.methods:
        keys = {search_job(experiment, materials, entry, lr).run.key for lr in rates_of(experiment, entry)}
        lr = find_rate(experiment, materials, entry, searched.results)
        if lr is not None and not keys & left:
            rates[entry] = lr
    return rates


def named_results(
    experiment: Experiment, materials: Materials, results: Mapping[str, Result]
) -> tuple[list[Result], int]:
    """The results of the grid of `experiment` among `results`, and how many are missing.

    Raises:
        ConfigError: there are none.
    """
    rates = find_rates(experiment, materials, Outcome(results))
    jobs = grid_jobs(experiment, materials, rates)
    found = [results[job.run.key] for job in jobs if job.run.key in results]
    if not found:
        raise ConfigError(f"{experiment.cache} has no result of this configuration: `rankfleet experiment run` first")
    return found, grid_size(experiment) - len(found)


def forecast(experiment: Experiment, materials: Materials, results: Mapping[str, Result], workers: int) -> list[str]:
    """For a person: how many runs there are, how many are in the cache, and how long the others will take."""
    search = {job.run.key: job.run for job in search_jobs(experiment, materials)}
    missing = [run for key, run in search.items() if key not in results]
    rates = find_rates(experiment, materials, Outcome(results))
    grid = [job.run for job in grid_jobs(experiment, materials, rates)]
    ahead = [run for run in grid if run.key not in results]
    left_s = Durations(results.values()).left_s((*missing, *ahead), {}, workers)
    return [
        f"search for learning rates: {len(search)} runs, {len(missing)} of them missing",
        f"grid: {grid_size(experiment)} runs, {len(grid) - len(ahead)} of them in the cache, "
        f"{grid_size(experiment) - len(grid)} of methods that have no learning rate yet",
        f"runs that can be planned now: {len(missing) + len(ahead)}; {time_left(left_s)}",
    ]


def grid_size(experiment: Experiment) -> int:
    """How many runs the grid has."""
    return math.prod(map(len, (experiment.seeds, experiment.alphas, experiment.datasets, experiment.methods)))


def label(entry: MethodEntry) -> str:
    """The method and its extras."""
    return "+".join((entry.name, *entry.extras))
