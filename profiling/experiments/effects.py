"""What the factors of a sweep do: paired differences to the base, with intervals over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, geometric_mean

import msgspec

from .record import Result
from .report.statistics import Estimate, Ratio, estimate, geometric
from .sweep import Change, Place, Sweep, Trial, Variant, base_value


class Effect(msgspec.Struct, frozen=True):
    """What one value of a setting does, all else alike."""

    setting: str
    value: str
    base: str
    """The value that it is compared with."""
    accuracy: Estimate
    """Difference of the final accuracy to the base's (a share, not percent): the mean over pairs of a seed, then over
    seeds."""
    bytes: Ratio
    """All bytes in relation to the base's, likewise, by geometric means."""
    pairs: int
    """Pairs of runs that are alike but for the setting."""
    matters: bool
    """Whether the interval of the accuracy leaves out zero; no single seed can tell."""


class Effects(msgspec.Struct, frozen=True):
    """What a sweep found. `missing` runs had no result."""

    method: str
    effects: tuple[Effect, ...]
    """By the largest difference that a value of the setting makes, then value by value likewise."""
    missing: int


def find_effects(sweep: Sweep, trials: Sequence[Trial], results: Mapping[str, Result]) -> Effects:
    """The effects of `sweep` as far as its `trials` have results, by the key of their run.

    Intervals are of each difference alone: of many values that do nothing, one in twenty is beyond its interval.
    """
    found = {(one.variant, one.place): results[one.job.run.key] for one in trials if one.job.run.key in results}
    changes = dict.fromkeys(change for one in trials for change in sorted(one.variant))
    effects = [effect for change in changes if (effect := _effect(sweep, change, found)) is not None]
    return Effects(sweep.experiment.methods[0].name, tuple(_sorted(effects)), len(trials) - len(found))


def table(effects: Effects) -> list[str]:
    """The effects for a person, and which settings matter."""
    rows = [_HEADINGS, *map(_cells, effects.effects)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    settings = dict.fromkeys(effect.setting for effect in effects.effects if effect.matters)
    missing = [f"{effects.missing} runs are missing"] if effects.missing else []
    matter = f"settings that matter to {effects.method}: {', '.join(settings) or 'none beyond its interval'}"
    return [*lines, matter, *missing]


_HEADINGS = ("setting", "value", "base", "accuracy, points", "bytes", "seeds", "pairs", "matters")
_Found = Mapping[tuple[Variant, Place], Result]


def _effect(sweep: Sweep, change: Change, found: _Found) -> Effect | None:
    pairs = _pairs(change, found)
    accuracy = estimate(_by_seed(pairs, lambda ours, base: ours.accuracy - base.accuracy, fmean))
    ratio = geometric(_by_seed(pairs, lambda ours, base: ours.bytes_total / base.bytes_total, geometric_mean))
    if accuracy is None or ratio is None:
        return None
    matters = accuracy.ci95 is not None and abs(accuracy.mean) > accuracy.ci95
    base = base_value(sweep, change.setting)
    return Effect(change.setting, change.value, base, accuracy, ratio, len(pairs), matters)


def _pairs(change: Change, found: _Found) -> list[tuple[int, Result, Result]]:
    """The seed, a run with `change`, and the run that is alike but for it."""
    return [
        (place.seed, ours, found[variant - {change}, place])
        for (variant, place), ours in found.items()
        if change in variant and (variant - {change}, place) in found
    ]


def _by_seed(
    pairs: Sequence[tuple[int, Result, Result]],
    compare: Callable[[Result, Result], float],
    mean: Callable[[Sequence[float]], float],
) -> list[float]:
    """One value a seed: its runs share draws, so only seeds are independent."""
    values: defaultdict[int, list[float]] = defaultdict(list)
    for seed, ours, base in pairs:
        values[seed].append(compare(ours, base))
    return [mean(values[seed]) for seed in sorted(values)]


def _sorted(effects: Sequence[Effect]) -> list[Effect]:
    largest: defaultdict[str, float] = defaultdict(float)
    for effect in effects:
        largest[effect.setting] = max(largest[effect.setting], abs(effect.accuracy.mean))
    return sorted(effects, key=lambda one: (-largest[one.setting], one.setting, -abs(one.accuracy.mean), one.value))


def _cells(effect: Effect) -> tuple[str, ...]:
    accuracy, ratio = effect.accuracy, effect.bytes
    interval = "" if accuracy.ci95 is None else f" ± {100 * accuracy.ci95:.2f}"
    bounds = "" if ratio.low is None else f" ({ratio.low:.2f} to {ratio.high:.2f})"
    return (
        effect.setting,
        effect.value,
        effect.base,
        f"{100 * accuracy.mean:+.2f}{interval}",
        f"{ratio.mean:.2f} x{bounds}",
        str(accuracy.count),
        str(effect.pairs),
        "yes" if effect.matters else "-",
    )
