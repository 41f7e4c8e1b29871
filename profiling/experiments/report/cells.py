"""Results in order: what can be compared is in one cell, what has one profile and model is in one group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edge_agent.wire.errors import ConfigError
from profiling.experiments.record import Result
from profiling.experiments.settings import Options, Profile

from .names import BASELINE, PRODUCT, PUBLISHED

_FIRST = (PRODUCT, PUBLISHED, BASELINE)


class Arm(NamedTuple):
    """A method with one set of options. Extras are empty for the method as published."""

    method: str
    extras: str

    @property
    def label(self) -> str:
        """As tables and legends show it."""
        return f"{self.method} + {self.extras}" if self.extras else self.method


@dataclass(frozen=True)
class Cell:
    """One data set, split in one way: the results of every arm by their seed, over the same splits."""

    dataset: str
    alpha: float | None
    arms: Mapping[Arm, Mapping[int, Result]]

    @property
    def title(self) -> str:
        """As headings show it."""
        return f"{self.dataset}, {split_name(self.alpha)}"

    def seeds(self, method: str, extras: str = "") -> Mapping[int, Result]:
        """The results of one arm by their seed; none where it was not run."""
        return self.arms.get(Arm(method, extras), {})


@dataclass(frozen=True)
class Group:
    """One model in one profile: cells by data set, then from even to uneven splits."""

    model: str
    pack_sha256: str
    profile: Profile
    options: Mapping[Arm, Options]
    cells: tuple[Cell, ...]

    @property
    def results(self) -> list[Result]:
        """All of them."""
        return [result for cell in self.cells for seeds in cell.arms.values() for result in seeds.values()]


def split_name(alpha: float | None) -> str:
    """As headings show it."""
    return "split of its own" if alpha is None else f"alpha {alpha:g}"


def alpha_order(alpha: float | None) -> float:
    """Sorts from even to uneven; the split that a data set itself has comes last."""
    return 0.0 if alpha is None else -alpha


def group(results: Sequence[Result]) -> list[Group]:
    """Groups in the order of their first results.

    Raises:
        ConfigError: no results, or results that cannot stand in one table: two packs or data sets of one name, two
            results for one seed, two settings of options under one name.
    """
    if not results:
        raise ConfigError("there are no finished runs to report: expected at least one, run the experiment first")
    _one_digest("packs", ((one.run.pack, one.run.pack_sha256) for one in results))
    _one_digest("data sets", ((one.run.dataset, one.run.dataset_sha256) for one in results))
    kinds = dict.fromkeys((one.run.pack, one.run.profile) for one in results)
    return [_group([one for one in results if (one.run.pack, one.run.profile) == kind]) for kind in kinds]


def _one_digest(what: str, named: Iterable[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for name, digest in named:
        if seen.setdefault(name, digest) != digest:
            raise ConfigError(
                f"the results are of two {what} named {name}, with the digests {seen[name][:12]} and {digest[:12]}: "
                "report them apart, or run one of them again"
            )


def _group(results: Sequence[Result]) -> Group:
    first = results[0].run
    options: dict[Arm, Options] = {}
    for one in results:
        arm = Arm(one.run.method, one.run.extras)
        if options.setdefault(arm, one.run.options) != one.run.options:
            raise ConfigError(
                f"{arm.label} was run with different options in one profile, {options[arm]} and {one.run.options}: "
                "give each its own name under extras, or report them as a sweep"
            )
    keys = sorted(
        {(one.run.dataset, alpha_order(one.run.alpha), one.run.alpha) for one in results}, key=lambda k: k[:2]
    )
    cells = tuple(_cell(dataset, alpha, results) for dataset, _, alpha in keys)
    arms = sorted(options, key=_arm_order)
    return Group(first.pack, first.pack_sha256, first.profile, {arm: options[arm] for arm in arms}, cells)


def _cell(dataset: str, alpha: float | None, results: Sequence[Result]) -> Cell:
    arms: dict[Arm, dict[int, Result]] = {}
    for one in results:
        if (one.run.dataset, one.run.alpha) == (dataset, alpha):
            seeds = arms.setdefault(Arm(one.run.method, one.run.extras), {})
            if one.run.seed in seeds:
                raise ConfigError(
                    f"{dataset}, {split_name(alpha)}: {one.run.method} has two results for seed {one.run.seed}, "
                    f"{seeds[one.run.seed].run.key} and {one.run.key}: expected one, leave one out"
                )
            seeds[one.run.seed] = one
    return Cell(dataset, alpha, {arm: dict(sorted(arms[arm].items())) for arm in sorted(arms, key=_arm_order)})


def _arm_order(arm: Arm) -> tuple[int, str, str]:
    """The product and what it is set against first, others by name."""
    return (_FIRST.index(arm.method) if arm.method in _FIRST else len(_FIRST), *arm)
