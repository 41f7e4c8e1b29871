"""What a configuration must keep to beyond the types of its settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from edge_agent.wire.errors import ConfigError

from .options import make_options
from .settings import BY_CLIENT, Experiment, Options, Profile


def check_experiment(path: Path, experiment: Experiment, known: Collection[str]) -> None:
    """Checks what `path` says; `known` are the names of the methods.

    Raises:
        ConfigError: names the setting, what was expected and what came.
    """
    for name in ("alphas", "seeds", "learning_rates"):
        _check_different(path, name, getattr(experiment, name))
    _check_different(path, "datasets", [Path(dataset).name for dataset in experiment.datasets])
    for alpha in experiment.alphas:
        if isinstance(alpha, str) and alpha != BY_CLIENT:
            raise ConfigError(f"{path}: alphas: expected numbers or {BY_CLIENT!r}, got {alpha!r}")
    check_profile(str(path), experiment.profile)
    _check_methods(path, experiment, known)


def check_profile(where: str, profile: Profile) -> None:
    """Checks that a round can be as `profile` says; `where` is named in the error.

    Raises:
        ConfigError: as `check_experiment`.
    """
    if profile.cohort > profile.clients:
        raise ConfigError(
            f"{where}: profile.cohort ({profile.cohort}) is more than profile.clients ({profile.clients}): "
            "lower the one or raise the other"
        )
    if not any(profile.rank_shares):
        raise ConfigError(f"{where}: profile.rank_shares must have a share above 0, got {list(profile.rank_shares)}")


def check_ranks(where: str, options: Options, profile: Profile) -> None:
    """Checks that the ranks' schedule fits; `where` is named in the error.

    Raises:
        ConfigError: as `check_experiment`.
    """
    ranks = options.ranks
    if ranks.target != "auto" and ranks.target > ranks.initial:
        raise ConfigError(
            f"{where}: ranks.target ({ranks.target:g}) is above ranks.initial ({ranks.initial}): "
            "ranks are only ever pruned"
        )
    if ranks.warmup_rounds + ranks.final_rounds >= profile.rounds:
        raise ConfigError(
            f"{where}: ranks.warmup_rounds ({ranks.warmup_rounds}) and ranks.final_rounds ({ranks.final_rounds}) must "
            f"leave at least one of profile.rounds ({profile.rounds}) for pruning"
        )


def _check_methods(path: Path, experiment: Experiment, known: Collection[str]) -> None:
    names = [" + ".join((entry.name, *entry.extras)) for entry in experiment.methods]
    _check_different(path, "methods", names)
    for entry in experiment.methods:
        if entry.name not in known:
            raise ConfigError(f"{path}: methods: unknown method {entry.name!r}, expected one of {sorted(known)}")
        for lr in entry.learning_rates or experiment.learning_rates:
            check_ranks(f"{path}: methods: {entry.name}", make_options(experiment, entry, lr), experiment.profile)


def _check_different(path: Path, name: str, values: Sequence[object]) -> None:
    if not values or len(values) != len(set(map(repr, values))):
        raise ConfigError(f"{path}: {name}: expected one or more different values, got {list(values)}")
