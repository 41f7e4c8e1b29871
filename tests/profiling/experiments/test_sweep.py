"""Settings varied around a base."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.experiments.plan import grid_jobs
from profiling.experiments.settings import MethodEntry
from profiling.experiments.sweep import Change, Factors, Place, Sweep, base_value, load_sweep, trials_of
from tests.experiments import MATERIALS, METHODS, make_experiment

ENTRY = MethodEntry("fedara")
FACTORS = {"ranks.target": (1, 2.0, 4.0), "training.importance": ("energy",), "profile.cohort": (3,)}
CONFIG = """
[experiment]
pack = "pack"
cache = "cache"
datasets = ["ag_news"]
methods = [{ name = "fedara" }]
[sweep.factors]
"ranks.target" = [1.0]
"""


def make_sweep(design: str = "one-at-a-time", **changes: object) -> Sweep:
    experiment = make_experiment(Path("/here"), methods=(ENTRY,), **changes)
    return Sweep(experiment, Factors(FACTORS, design))


def test_one_factor_at_a_time_is_varied_around_the_base() -> None:
    trials = trials_of(make_sweep(), MATERIALS, 1e-3)[:5]
    assert {one.place for one in trials} == {Place(0, 0.01, "ag_news")}
    assert [sorted(one.variant) for one in trials] == [
        [],
        [Change("ranks.target", "1")],
        [Change("ranks.target", "4.0")],
        [Change("training.importance", "energy")],
        [Change("profile.cohort", "3")],
    ]
    runs = [one.job.run for one in trials]
    assert [run.options.ranks.target for run in runs] == [2.0, 1.0, 4.0, 2.0, 2.0]
    assert (runs[3].options.training.importance, runs[4].profile.cohort) == ("energy", 3)
    assert (runs[0].extras, runs[1].extras) == ("", "ranks.target=1")


def test_a_grid_has_all_combinations_with_the_base_values() -> None:
    trials = trials_of(make_sweep("grid", seeds=(0,), alphas=(0.1,), datasets=("ag_news",)), MATERIALS, 1e-3)
    assert len(trials) == len({one.job.run.key for one in trials}) == 3 * 2 * 2
    assert trials[0].variant == frozenset() and max(len(one.variant) for one in trials) == 3


def test_the_base_is_a_run_of_the_experiment_itself() -> None:
    sweep = make_sweep()
    base = [one.job for one in trials_of(sweep, MATERIALS, 3e-3) if not one.variant]
    assert base == grid_jobs(sweep.experiment, MATERIALS, {ENTRY: 3e-3})


def test_base_values_read_as_changes_do() -> None:
    sweep = make_sweep()
    assert [base_value(sweep, setting) for setting in FACTORS] == ["2.0", "magnitude", "2"]


def test_paths_of_a_sweep_are_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "sweep.toml").write_text(CONFIG, encoding="utf-8")
    sweep = load_sweep(tmp_path / "sweep.toml", METHODS)
    assert (sweep.experiment.cache, sweep.sweep.design) == (tmp_path / "cache", "one-at-a-time")


def test_a_sweep_may_have_a_base(tmp_path: Path) -> None:
    experiment, factors = CONFIG.removeprefix("\n").removeprefix("[experiment]").split("[sweep")
    (tmp_path / "base.toml").write_text(experiment, encoding="utf-8")
    text = f'[experiment]\nbase = "base.toml"\nseeds = [7]\n[sweep{factors}'
    (tmp_path / "sweep.toml").write_text(text, encoding="utf-8")
    sweep = load_sweep(tmp_path / "sweep.toml", METHODS)
    assert (sweep.experiment.cache, sweep.experiment.seeds) == (tmp_path / "cache", (7,))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"ranks.target" = [1.0]', "", "sweep.factors: expected settings"),
        ("[1.0]", "[]", "sweep.factors: expected settings"),
        ("ranks.target", "ranks.targets", "targets"),
        ("ranks.target", "rank.target", "rank"),
        ("[1.0]", "[9.0]", r"ranks.target \(9\) is above"),
        ('"ranks.target" = [1.0]', '"profile.cohort" = [21]', r"profile.cohort \(21\)"),
        ('"ranks.target" = [1.0]', '"target" = [1.0]', "target"),
        ('{ name = "fedara" }', '{ name = "fedara" }, { name = "fedlora" }', "a sweep has one method, got 2"),
    ],
)
def test_a_sweep_that_cannot_be_run_is_refused(tmp_path: Path, old: str, new: str, named: str) -> None:
    (tmp_path / "sweep.toml").write_text(CONFIG.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load_sweep(tmp_path / "sweep.toml", METHODS)
