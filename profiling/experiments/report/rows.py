"""The rows of `results.json`: one for each data set, model, split, method and extras."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from profiling.experiments.record import Result
from profiling.experiments.settings import Profile

from .cells import Arm, Cell, Group
from .curves import accuracy_within, bytes_until
from .names import BASELINE, FLOOR
from .statistics import Estimate, estimate, paired


class Row(msgspec.Struct, frozen=True):
    """One arm in one cell. Accuracies are shares of 1, intervals half of the width of a 95 % interval over seeds.

    FedLoRA is the method as published, without extras. What is compared with it is compared on the seeds that both
    have. A figure that cannot be had is null, never zero.
    """

    dataset: str
    model: str
    profile: str
    """See `profile_key`."""
    alpha: float | None
    method: str
    extras: str
    seeds: int
    """How many."""
    rounds: int
    accuracy_mean: float
    """After the last round, as `accuracy_ci95`."""
    accuracy_ci95: float | None
    paired_difference_to_fedlora: Estimate | None
    """At the last round. Null for FedLoRA itself."""
    bytes_total: float
    """Up and down together, of all rounds and devices; the mean over seeds."""
    bytes_to_fedlora: float | None
    """What this arm needs until it first reaches FedLoRA's own final accuracy of the same seed, the mean over seeds;
    null if any seed never does."""
    bytes_ratio_to_fedlora: float | None
    """`bytes_to_fedlora` divided by what FedLoRA needs until it first has its own final accuracy, mean by mean."""
    equal_bytes: float | None
    """See `equal_bytes`; the mean over this arm's seeds."""
    accuracy_at_equal_bytes: float | None
    """At the last evaluation within `equal_bytes` of the same seed; null if any seed has none."""
    accuracy_at_equal_bytes_ci95: float | None


def profile_key(profile: Profile) -> str:
    """8 hexadecimal digits that tell profiles apart."""
    return hashlib.sha256(msgspec.json.encode(profile, order="sorted")).hexdigest()[:8]


def group_rows(group: Group) -> list[Row]:
    """The rows of one group, cell by cell."""
    return [_row(group, cell, arm) for cell in group.cells for arm in cell.arms]


def equal_bytes(cell: Cell) -> dict[int, int]:
    """By seed: the least that any arm of the cell spends in all its rounds, up and down together.

    Arms with extras count too. The head alone does not: it trains no ranks.
    """
    budgets: dict[int, int] = {}
    for arm, seeds in cell.arms.items():
        if arm.method != FLOOR:
            for seed, result in seeds.items():
                budgets[seed] = min(budgets.get(seed, result.bytes_total), result.bytes_total)
    return budgets


def bytes_to_baseline(ours: Mapping[int, Result], baseline: Mapping[int, Result]) -> list[tuple[int | None, int]]:
    """On each seed that both have: the bytes until FedLoRA's final accuracy, of this method and of FedLoRA."""
    return [(bytes_until(one, base.accuracy), _own_bytes(base)) for one, base in paired(ours, baseline)]


def _own_bytes(result: Result) -> int:
    spent = bytes_until(result, result.accuracy)
    assert spent is not None
    return spent


def _row(group: Group, cell: Cell, arm: Arm) -> Row:
    seeds, baseline = cell.arms[arm], cell.seeds(BASELINE)
    accuracy = _sure([one.accuracy for one in seeds.values()])
    needed_bytes, ratio = _needed_bytes(bytes_to_baseline(seeds, baseline))
    budgets = {seed: budget for seed, budget in equal_bytes(cell).items() if seed in seeds}
    equal = _at_equal_bytes(seeds, budgets)
    differences = [] if arm == Arm(BASELINE, "") else [a.accuracy - b.accuracy for a, b in paired(seeds, baseline)]
    return Row(
        dataset=cell.dataset,
        model=group.model,
        profile=profile_key(group.profile),
        alpha=cell.alpha,
        method=arm.method,
        extras=arm.extras,
        seeds=len(seeds),
        rounds=group.profile.rounds,
        accuracy_mean=accuracy.mean,
        accuracy_ci95=accuracy.ci95,
        paired_difference_to_fedlora=estimate(differences),
        bytes_total=statistics.fmean(one.bytes_total for one in seeds.values()),
        bytes_to_fedlora=needed_bytes,
        bytes_ratio_to_fedlora=ratio,
        equal_bytes=statistics.fmean(budgets.values()) if budgets else None,
        accuracy_at_equal_bytes=equal.mean if equal else None,
        accuracy_at_equal_bytes_ci95=equal.ci95 if equal else None,
    )


def _sure(values: Sequence[float]) -> Estimate:
    found = estimate(values)
    assert found is not None  # an arm is made of its results
    return found


def _needed_bytes(pairs: Sequence[tuple[int | None, int]]) -> tuple[float | None, float | None]:
    """The mean bytes, and their ratio to FedLoRA's own."""
    needed = [ours for ours, _ in pairs if ours is not None]
    if not pairs or len(needed) < len(pairs):
        return None, None
    mean = statistics.fmean(needed)
    return mean, mean / statistics.fmean(own for _, own in pairs)


def _at_equal_bytes(seeds: Mapping[int, Result], budgets: Mapping[int, int]) -> Estimate | None:
    reached = [accuracy_within(seeds[seed], budget) for seed, budget in budgets.items()]
    known = [accuracy for accuracy in reached if accuracy is not None]
    return estimate(known) if len(known) == len(seeds) else None
