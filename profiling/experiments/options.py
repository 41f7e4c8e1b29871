"""The settings of one method of an experiment: the product's own, those that it replaces, and its learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from edge_agent.wire.errors import ConfigError

from .settings import PRODUCT, PUBLISHED, Experiment, MethodEntry, Options

Tree = Mapping[str, Any]
"""Settings by name; those of a section are a tree of their own."""

SIGNIFICANT_DIGITS = 6
"""Of a scaled learning rate: beyond them are rounding errors, which would tell equal runs apart."""


def make_options(experiment: Experiment, entry: MethodEntry, lr: float | None) -> Options:
    """The product's defaults, or for another method what was published; then the experiment's settings, then each of
    the entry's extras in their order, then `lr` if there is one.

    `lr` replaces `training.lr`; `training.lr_e` and `training.lr_head` keep their ratios to it.

    Raises:
        ConfigError: an extras table that the experiment does not have, or a setting in it that is unknown or out of
            range; names it.
    """
    tree: Tree = msgspec.to_builtins(Options())
    if entry.name != PRODUCT:
        tree = replaced(tree, PUBLISHED)
    tree = replaced(tree, experiment.settings)
    convert(tree, Options, "settings")
    for name in entry.extras:
        if name not in experiment.extras:
            raise ConfigError(
                f"methods: {entry.name} has the extras {name!r}, expected one of {sorted(experiment.extras)}: "
                f"add a table [extras.{name}]"
            )
        tree = replaced(tree, experiment.extras[name])
        convert(tree, Options, f"extras.{name}")
    options = convert(tree, Options, f"the settings of {entry.name}")
    return options if lr is None else _with_rate(options, lr)


def replaced(tree: Tree, changes: Tree) -> Tree:
    """`tree` with what `changes` names in place of its own; sections are merged, everything else is replaced."""
    return {**tree, **{name: _merged(tree.get(name), value) for name, value in changes.items()}}


def convert(tree: Tree, kind: type[msgspec.Struct], where: str) -> Any:
    """`tree` as a structure of type `kind`; `where` tells the user whose settings these are.

    Raises:
        ConfigError: a setting is unknown or out of range; names it.
    """
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}; see docs/experiments.md for every setting") from error


def _merged(own: Any, value: Any) -> Any:
    return replaced(own, value) if isinstance(own, Mapping) and isinstance(value, Mapping) else value


def _with_rate(options: Options, lr: float) -> Options:
    old = options.training
    rates = {"lr": lr, "lr_e": _scaled(old.lr_e, lr / old.lr), "lr_head": _scaled(old.lr_head, lr / old.lr)}
    tree = replaced(msgspec.to_builtins(options), {"training": rates})
    return convert(tree, Options, f"the learning rate {lr:g}")


def _scaled(rate: float, factor: float) -> float:
    return float(f"{rate * factor:.{SIGNIFICANT_DIGITS}g}")
