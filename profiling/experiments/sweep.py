"""Sweeps: one method's settings varied, one factor at a time or all together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.settings import convert_toml, read_toml

from .check import check_experiment, check_profile, check_ranks
from .jobs import Job
from .options import Tree, convert, make_options, replaced
from .plan import PAGE, Materials, grid_jobs, rates_of, resolve, with_base
from .settings import Experiment, Options, Profile

PROFILE = "profile"
"""The section of settings that are not the method's own."""


class Factors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is varied: values by setting, such as `"ranks.target" = [1.0, 4.0]`; the base value need not be named."""

    factors: dict[str, tuple[Any, ...]]
    design: Literal["one-at-a-time", "grid"] = "one-at-a-time"
    """One factor at a time around the base, or all combinations."""


class Sweep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The configuration file of a sweep: an experiment with one method, the base, and what to vary of it."""

    experiment: Experiment
    sweep: Factors


class Change(NamedTuple):
    """One setting with another value than the base has."""

    setting: str
    value: str
    """As JSON has it, strings without quotes."""


Variant = frozenset[Change]
"""The base with some changes; without any it is the base itself."""


class Place(NamedTuple):
    """What runs have in common that can be compared in pairs."""

    seed: int
    alpha: float | None
    dataset: str


class Trial(NamedTuple):
    """One run of a sweep."""

    variant: Variant
    place: Place
    job: Job


class _Settings(NamedTuple):
    options: Options
    profile: Profile


def load_sweep(path: Path, known: Collection[str]) -> Sweep:
    """The sweep in `path`; relative paths in it are relative to its folder. `known` are the methods' names.

    Raises:
        ConfigError: the file is missing or malformed, or a setting is unknown, out of range or contradicts another.
    """
    tree = read_toml(path, PAGE)
    if isinstance(tree.get("experiment"), dict):
        tree["experiment"] = with_base(tree["experiment"], path)
    sweep = convert_toml(tree, Sweep, path, PAGE)
    check_experiment(path, sweep.experiment, known)
    if len(sweep.experiment.methods) != 1:
        raise ConfigError(f"{path}: experiment.methods: a sweep has one method, got {len(sweep.experiment.methods)}")
    if not sweep.sweep.factors or not all(sweep.sweep.factors.values()):
        raise ConfigError(f"{path}: sweep.factors: expected settings, each with one or more values")
    _variants(sweep, rates_of(sweep.experiment, sweep.experiment.methods[0])[0])
    return msgspec.structs.replace(sweep, experiment=resolve(sweep.experiment, path.resolve().parent))


def trials_of(sweep: Sweep, materials: Materials, lr: float) -> list[Trial]:
    """The runs of `sweep` with the learning rate `lr`, place by place in the order of the grid, the base first.

    Raises:
        ConfigError: a value that is out of range with this learning rate.
    """
    entry = sweep.experiment.methods[0]
    variants = _variants(sweep, lr)
    return [
        Trial(variant, Place(job.run.seed, job.run.alpha, job.run.dataset), _varied(job, variant, settings))
        for job in grid_jobs(sweep.experiment, materials, {entry: lr})
        for variant, settings in variants.items()
    ]


def base_value(sweep: Sweep, setting: str) -> str:
    """The value that `setting` has in the base, before a learning rate is searched."""
    experiment = sweep.experiment
    base = _Settings(make_options(experiment, experiment.methods[0], None), experiment.profile)
    return _label(reduce(lambda tree, name: tree[name], setting.split("."), _tree(base)))


def _variants(sweep: Sweep, lr: float) -> dict[Variant, _Settings]:
    """Every variant once: a value that the base has already is no change."""
    experiment = sweep.experiment
    base = _Settings(make_options(experiment, experiment.methods[0], lr), experiment.profile)
    return {
        frozenset(
            Change(setting, _label(value))
            for setting, value in chosen.items()
            if _changed(base, {setting: value}) != base
        ): _checked(_changed(base, chosen), chosen)
        for chosen in _combinations(sweep.sweep)
    }


def _combinations(factors: Factors) -> Iterator[dict[str, Any]]:
    """Settings to change, the base (none) first."""
    if factors.design == "one-at-a-time":
        yield {}
        yield from ({setting: value} for setting, values in factors.factors.items() for value in values)
        return
    choices = [[{}, *({setting: value} for value in values)] for setting, values in factors.factors.items()]
    for combination in product(*choices):
        yield {setting: value for part in combination for setting, value in part.items()}


def _changed(base: _Settings, chosen: Mapping[str, Any]) -> _Settings:
    """`base` with the `chosen` values, by the paths of their settings."""
    tree: Tree = _tree(base)
    for setting, value in chosen.items():
        *sections, name = setting.split(".")
        tree = replaced(tree, reduce(lambda inner, section: {section: inner}, reversed(sections), {name: value}))
    options = {section: settings for section, settings in tree.items() if section != PROFILE}
    where = f"sweep.factors: {', '.join(chosen)}"
    return _Settings(convert(options, Options, where), convert(tree[PROFILE], Profile, where))


def _checked(settings: _Settings, chosen: Mapping[str, Any]) -> _Settings:
    where = f"sweep.factors: {chosen}"
    check_profile(where, settings.profile)
    check_ranks(where, settings.options, settings.profile)
    return settings


def _tree(settings: _Settings) -> dict[str, Any]:
    return {**msgspec.to_builtins(settings.options), PROFILE: msgspec.to_builtins(settings.profile)}


def _varied(job: Job, variant: Variant, settings: _Settings) -> Job:
    """`job` as a run of `variant`, which takes the place of a name in its extras."""
    names = [f"{setting}={value}" for setting, value in sorted(variant)]
    extras = "+".join(([job.run.extras] if job.run.extras else []) + names)
    run = msgspec.structs.replace(job.run, extras=extras, options=settings.options, profile=settings.profile)
    return msgspec.structs.replace(job, run=run)


def _label(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
