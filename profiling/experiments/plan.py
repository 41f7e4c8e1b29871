"""From a configuration file to the single runs that it asks for, in the order in which they are useful."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import MANIFEST, load_manifest
from edge_agent.wire.settings import convert_toml, read_toml

from .check import check_experiment
from .jobs import Job
from .options import make_options, replaced
from .record import Result
from .settings import BY_CLIENT, Experiment, MethodEntry, Run

PAGE = "docs/experiments.md"
"""Where every setting is described."""


@dataclass(frozen=True)
class Materials:
    """What an experiment's runs are made from, looked up once: digests are part of every run."""

    model: str
    pack_sha256: str
    datasets: Mapping[str, str]
    """sha256 by name or folder."""


def load(path: Path, known: Collection[str]) -> Experiment:
    """The experiment in `path`; relative paths in it are relative to its folder. `known` are the methods' names.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown, out of range or contradicts another.
    """
    experiment = convert_toml(with_base(read_toml(path, PAGE), path), Experiment, path, PAGE)
    check_experiment(path, experiment, known)
    return resolve(experiment, path.resolve().parent)


def with_base(tree: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings `tree` of the file `path`, in place of those of the file that its `base` names.

    Raises:
        ConfigError: the base is in another folder, has a base itself, or cannot be read.
    """
    name = tree.get("base")
    if name is None:
        return tree
    if not isinstance(name, str) or Path(name).name != name:
        raise ConfigError(f"{path}: base: expected the name of a file in the same folder, got {name!r}")
    base = read_toml(path.with_name(name), PAGE)
    if "base" in base:
        raise ConfigError(f"{path}: base: {name} has a base itself: name that, or put all settings into one file")
    return dict(replaced(base, {key: value for key, value in tree.items() if key != "base"}))


def resolve(experiment: Experiment, here: Path) -> Experiment:
    """The same experiment with paths relative to `here`; a data set is a path where there is such a folder."""

    def place(name: str) -> str:
        folder = here / name
        return str(folder) if name and folder.is_dir() else name

    return msgspec.structs.replace(
        experiment,
        pack=here / experiment.pack,
        cache=here / experiment.cache,
        datasets=tuple(map(place, experiment.datasets)),
        search_dataset=place(experiment.search_dataset),
    )


def read_materials(experiment: Experiment, dataset_sha256: Callable[[str], str]) -> Materials:
    """The digests of the experiment's pack and data sets.

    Raises:
        PackError: there is no pack.
        DataError: a data set that is neither a name nor a folder, or whose files cannot be read.
        FetchError: a data set by name that was not fetched.
    """
    manifest = load_manifest(experiment.pack)
    digest = hashlib.sha256((experiment.pack / MANIFEST).read_bytes()).hexdigest()
    names = {*experiment.datasets, _search_dataset(experiment)}
    return Materials(manifest.model, digest, {name: dataset_sha256(name) for name in sorted(names)})


def rates_of(experiment: Experiment, entry: MethodEntry) -> tuple[float, ...]:
    """The learning rates among which one is searched for `entry`; where there is one, there is no search."""
    return entry.learning_rates or experiment.learning_rates


def search_jobs(experiment: Experiment, materials: Materials) -> list[Job]:
    """The runs that find every method's learning rate, rate by rate so that all methods advance alike."""
    searched = [(entry, rates_of(experiment, entry)) for entry in experiment.methods]
    pairs = [(rank, entry, lr) for entry, rates in searched if len(rates) > 1 for rank, lr in enumerate(sorted(rates))]
    return [search_job(experiment, materials, entry, lr) for _, entry, lr in sorted(pairs, key=lambda pair: pair[0])]


def search_job(experiment: Experiment, materials: Materials, entry: MethodEntry, lr: float) -> Job:
    """The run that tells how good `lr` is for `entry`."""
    dataset, alpha = _search_dataset(experiment), experiment.search_alpha
    return _job(experiment, materials, entry, lr, (experiment.search_seed, alpha, dataset))


def find_rate(
    experiment: Experiment, materials: Materials, entry: MethodEntry, results: Mapping[str, Result]
) -> float | None:
    """The rate with the best final accuracy among the finished runs, the smaller of equals; None if there is none.

    `results` are by the key of their run.
    """
    rates = rates_of(experiment, entry)
    if len(rates) == 1:
        return rates[0]
    found = {lr: results.get(search_job(experiment, materials, entry, lr).run.key) for lr in rates}
    scores = {lr: result.accuracy for lr, result in found.items() if result is not None}
    return max(scores, key=lambda lr: (scores[lr], -lr), default=None)


def grid_jobs(experiment: Experiment, materials: Materials, rates: Mapping[MethodEntry, float]) -> list[Job]:
    """The runs of the experiment, for the methods that have a rate.

    Seeds outermost, so that early results are complete for some; then alphas from the smallest, where methods differ
    most; then data sets; then methods.
    """
    return [
        _job(experiment, materials, entry, rates[entry], (seed, alpha, dataset))
        for seed in experiment.seeds
        for alpha in sorted(experiment.alphas, key=lambda alpha: (alpha == BY_CLIENT, alpha))
        for dataset in experiment.datasets
        for entry in experiment.methods
        if entry in rates
    ]


def _search_dataset(experiment: Experiment) -> str:
    return experiment.search_dataset or experiment.datasets[0]


def _job(
    experiment: Experiment,
    materials: Materials,
    entry: MethodEntry,
    lr: float,
    where: tuple[int, float | str, str],
) -> Job:
    seed, alpha, dataset = where
    run = Run(
        pack=materials.model,
        pack_sha256=materials.pack_sha256,
        dataset=Path(dataset).name,
        dataset_sha256=materials.datasets[dataset],
        alpha=None if isinstance(alpha, str) else alpha,
        seed=seed,
        method=entry.name,
        extras="+".join(entry.extras),
        options=make_options(experiment, entry, lr),
        profile=experiment.profile,
    )
    return Job(run, str(experiment.pack), dataset, str(experiment.cache))
