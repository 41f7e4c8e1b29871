"""How accuracy depends on one setting, where runs differ in nothing else."""

from __future__ import annotations

import statistics
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import msgspec

from profiling.experiments.record import Result
from profiling.experiments.settings import Run

from .axis import linear, ordinal
from .cells import Arm, split_name
from .chart import Point, Series, line_chart
from .plots import PERCENT, choose_styles, range_of

_Settings = tuple[tuple[str, str], ...]
_Seeds = dict[int, float]
_Place = tuple[str, str, str, float | None]
"""Model, method, data set and alpha."""


class Curve(NamedTuple):
    """One setting varied, all others kept: accuracies by value, on the same seeds at every value."""

    model: str
    setting: str
    name: str
    points: Mapping[str, Sequence[float]]


def settings_of(run: Run) -> dict[str, str]:
    """Options and profile by name, such as `ranks.target`; values as they stand in a configuration file."""
    return dict(_flat("", msgspec.to_builtins(run.options))) | dict(
        _flat("profile.", msgspec.to_builtins(run.profile) | {"device": None})
    )


def find_curves(results: Iterable[Result]) -> list[Curve]:
    """Every setting of which two values or more were run with all else alike, on at least one common seed.

    Extras are only names of settings and are not looked at, nor is the device of the modelled time.
    """
    places: dict[_Place, dict[_Settings, _Seeds]] = {}
    for one in results:
        place = (one.run.pack, one.run.method, one.run.dataset, one.run.alpha)
        settings = tuple(settings_of(one.run).items())
        places.setdefault(place, {}).setdefault(settings, {})[one.run.seed] = one.accuracy
    curves = [curve for place, variants in places.items() for curve in _place_curves(place, variants)]
    return sorted(curves, key=lambda curve: curve[:3])


def sensitivity_charts(curves: Sequence[Curve]) -> list[ET.Element]:
    """One chart a model and setting; the values stand evenly apart. Bands span the seeds."""
    return [_chart(list(same)) for _, same in groupby(curves, key=lambda curve: (curve.model, curve.setting))]


def _flat(prefix: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield prefix + name, value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _place_curves(place: _Place, variants: Mapping[_Settings, _Seeds]) -> list[Curve]:
    names = dict.fromkeys(name for settings in variants for name, _ in settings)
    return [curve for name in names for curve in _setting_curves(place, name, variants)]


def _setting_curves(place: _Place, setting: str, variants: Mapping[_Settings, _Seeds]) -> list[Curve]:
    """One for each choice of the other settings under which this one was varied."""
    by_others: dict[_Settings, dict[str, _Seeds]] = {}
    for settings, seeds in variants.items():
        others = tuple(item for item in settings if item[0] != setting)
        by_others.setdefault(others, {})[dict(settings)[setting]] = seeds
    varied = {others: values for others, values in by_others.items() if len(values) > 1}
    told_apart = {item for others in varied for item in others if not all(item in known for known in varied)}
    model, method, dataset, alpha = place
    curves = []
    for others, values in varied.items():
        common = set[int].intersection(*(set(seeds) for seeds in values.values()))
        points = {value: [values[value][seed] for seed in sorted(common)] for value in sorted(values, key=_order)}
        apart = [f"{name}={value}" for name, value in others if (name, value) in told_apart]
        if common:
            name = ", ".join((method, dataset, split_name(alpha), *apart))
            curves.append(Curve(model, setting, name, points))
    return curves


def _order(value: str) -> tuple[bool, float, str]:
    """Numbers by size, then all else by name."""
    try:
        return False, float(value), value
    except ValueError:
        return True, 0.0, value


def _chart(curves: Sequence[Curve]) -> ET.Element:
    values = sorted({value for curve in curves for value in curve.points}, key=_order)
    styles = choose_styles(Arm(curve.name, "") for curve in curves)
    series = [Series(curve.name, styles[Arm(curve.name, "")], _points(curve, values)) for curve in curves]
    y = linear("accuracy, %", range_of(series))
    setting = curves[0].setting
    return line_chart(f"{curves[0].model}: accuracy against {setting}", ordinal(setting, values), y, series)


def _points(curve: Curve, values: Sequence[str]) -> list[Point]:
    places = [(values.index(value), [PERCENT * one for one in seeds]) for value, seeds in curve.points.items()]
    return [Point(place, statistics.fmean(seeds), min(seeds), max(seeds)) for place, seeds in places]
