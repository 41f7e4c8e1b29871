"""From a configuration to runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.wire.errors import ConfigError
from profiling.experiments.plan import (
    find_rate,
    grid_jobs,
    load,
    rates_of,
    read_materials,
    search_job,
    search_jobs,
)
from profiling.experiments.settings import MethodEntry
from tests.experiments import MATERIALS, METHODS, RATES, make_experiment, make_result
from tests.models import tiny_pack

CONFIG = """
pack = "pack"
cache = "cache"
datasets = ["mine", "ag_news"]
alphas = [1.0, "client"]
methods = [{ name = "fedara" }, { name = "fedara", extras = ["int4"] }]
[extras.int4.training]
quantisation = "int4"
"""
ENTRY = MethodEntry("fedara")


def test_paths_are_relative_to_the_configurations_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    experiment = load(tmp_path / "config.toml", METHODS)
    assert (experiment.pack, experiment.cache) == (tmp_path / "pack", tmp_path / "cache")
    assert experiment.datasets == (str(tmp_path / "mine"), "ag_news")
    assert experiment.search_dataset == ""


def test_a_file_has_the_settings_of_its_base_where_it_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "more.toml").write_text(
        'base = "config.toml"\nalphas = [0.5]\n[profile]\nrounds = 9\n[extras.int4.ranks]\ntarget = 1.0\n',
        encoding="utf-8",
    )
    first, more = (load(tmp_path / name, METHODS) for name in ("config.toml", "more.toml"))
    assert (more.alphas, more.profile.rounds) == ((0.5,), 9)
    assert (more.pack, more.datasets, more.methods) == (first.pack, first.datasets, first.methods)
    assert more.extras["int4"] == {"training": {"quantisation": "int4"}, "ranks": {"target": 1.0}}


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ("7", "name of a file"),
        ('"../config.toml"', "in the same folder"),
        ('"nothing.toml"', "nothing.toml"),
        ('"more.toml"', "has a base itself"),
    ],
)
def test_a_base_that_cannot_be_is_refused(tmp_path: Path, base: str, reason: str) -> None:
    (tmp_path / "more.toml").write_text(f"base = {base}\nalphas = [0.5]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path / "more.toml", METHODS)


@pytest.mark.parametrize(
    ("wrong", "named"), [("fedara", "methods"), ("int4.training", "extras 'int4'"), ("alphas", "alpha")]
)
def test_a_misspelt_configuration_is_refused(tmp_path: Path, wrong: str, named: str) -> None:
    text = CONFIG.replace(wrong, {"alphas": "alpha"}.get(wrong, f"x{wrong}"))
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        load(tmp_path / "config.toml", METHODS)


def test_materials_have_the_digests_of_pack_and_data(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, pack=tiny_pack(), search_dataset="semeval")
    materials = read_materials(experiment, lambda name: f"digest of {name}")
    assert len(materials.pack_sha256) == 64
    assert materials.datasets == {name: f"digest of {name}" for name in ("ag_news", "banking77", "semeval")}


def test_the_grid_has_every_combination_once_the_most_telling_first(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, alphas=("client", 1.0, 0.01))
    runs = [job.run for job in grid_jobs(experiment, MATERIALS, dict.fromkeys(experiment.methods, 1e-3))]
    assert len({run.key for run in runs}) == len(runs) == 2 * 3 * 2 * 2
    assert [run.seed for run in runs] == [0] * 12 + [1] * 12
    assert [run.alpha for run in runs[:12:4]] == [0.01, 1.0, None]
    assert [(run.dataset, run.method) for run in runs[:3]] == [
        ("ag_news", "fedara"), ("ag_news", "fedlora"), ("banking77", "fedara"),
    ]  # fmt: skip


def test_methods_without_a_rate_are_left_out_of_the_grid(tmp_path: Path) -> None:
    runs = [job.run for job in grid_jobs(make_experiment(tmp_path), MATERIALS, {ENTRY: 3e-3})]
    assert {(run.method, run.options.training.lr) for run in runs} == {("fedara", 3e-3)}


def test_a_run_tells_all_that_its_outcome_depends_on(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    folder = str(tmp_path / "mine")
    entry = MethodEntry("fedara", ("int4", "short"))
    extras = {"int4": {"training": {"quantisation": "int4"}}, "short": {"ranks": {"initial": 4}}}
    experiment = make_experiment(tmp_path, datasets=(folder,), methods=(entry,), extras=extras)
    materials = read_materials(make_experiment(tmp_path, datasets=(folder,), pack=tiny_pack()), lambda name: "d" * 64)
    job = grid_jobs(experiment, materials, {entry: 1e-2})[0]
    assert (job.dataset, job.run.dataset, job.run.dataset_sha256) == (folder, "mine", "d" * 64)
    assert (job.run.extras, job.run.options.ranks.initial) == ("int4+short", 4)
    assert job.pack == str(experiment.pack) and job.cache == str(experiment.cache)


def test_every_method_is_searched_among_the_same_rates_on_the_same_data(tmp_path: Path) -> None:
    experiment = make_experiment(tmp_path, search_dataset="banking77", search_alpha=0.5, search_seed=9)
    runs = [job.run for job in search_jobs(experiment, MATERIALS)]
    assert {(run.dataset, run.alpha, run.seed) for run in runs} == {("banking77", 0.5, 9)}
    assert [(run.options.training.lr, run.method) for run in runs] == [
        (lr, method) for lr in RATES for method in METHODS
    ]


def test_a_method_with_one_rate_is_not_searched(tmp_path: Path) -> None:
    entry = MethodEntry("fedara", learning_rates=(5e-3,))
    experiment = make_experiment(tmp_path, methods=(entry, MethodEntry("fedlora")))
    assert {job.run.method for job in search_jobs(experiment, MATERIALS)} == {"fedlora"}
    assert rates_of(experiment, entry) == (5e-3,)
    assert find_rate(experiment, MATERIALS, entry, {}) == 5e-3


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [((0.3, 0.5, 0.4), RATES[1]), ((0.5, 0.5, 0.4), RATES[0]), ((None, 0.2, 0.3), RATES[2]), ((None,) * 3, None)],
)
def test_the_best_rate_wins_and_the_smaller_of_equals(
    tmp_path: Path, accuracies: tuple[float | None, ...], best: float | None
) -> None:
    experiment = make_experiment(tmp_path)
    runs = [search_job(experiment, MATERIALS, ENTRY, lr).run for lr in RATES]
    pairs = zip(runs, accuracies, strict=True)
    results = {run.key: make_result(run, accuracy) for run, accuracy in pairs if accuracy is not None}
    assert find_rate(experiment, MATERIALS, ENTRY, results) == best
