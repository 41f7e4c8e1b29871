"""Service levels: what the operator asks of the fleet, whether it holds, and since when. Without I/O.

An objective without a bound is not judged; one whose value cannot be told yet (no round open, no accuracy measured) is
neither met nor missed, and stays as it was. Values are monotonic seconds, counts and shares; the shell (`levels`) adds
the date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.config import ObjectiveSettings

_AT_LEAST = frozenset({"devices", "accuracy"})
"""Objectives whose bound is a floor; all others have a ceiling."""


@dataclass(frozen=True)
class Facts:
    """Where the fleet stands. None for what cannot be told."""

    round_open_s: float | None
    """How long the open round has been open."""
    devices_online: int
    accuracy: float | None
    """On the devices' hold-outs, as the last closed round measured it."""
    update_age_s: float | None
    """Since the device that has been quiet for longest gave its last update, or was first ready."""


@dataclass(frozen=True)
class Standing:
    """One objective that has a bound: the value judged last, and whether it is within the bound."""

    name: str
    bound: float
    value: float
    met: bool


def judge(settings: ObjectiveSettings, facts: Facts) -> tuple[Standing, ...]:
    """Every objective that has a bound and a value now, in the order of the settings."""
    values = {
        "round_s": facts.round_open_s,
        "devices": float(facts.devices_online),
        "accuracy": facts.accuracy,
        "update_age_s": facts.update_age_s,
    }
    found = []
    for name, value in values.items():
        bound = getattr(settings, name)
        if bound and value is not None:
            met = value >= bound if name in _AT_LEAST else value <= bound
            found.append(Standing(name, float(bound), value, met))
    return tuple(found)


def changes(before: Mapping[str, bool], now: tuple[Standing, ...]) -> tuple[Standing, ...]:
    """Those that were met and are missed, or the other way round. What is judged for the first time and met is no
    change."""
    return tuple(one for one in now if before.get(one.name, True) is not one.met)
