"""The charts of one cell: accuracy against rounds, bytes and device time, and client drift. Bands span the seeds."""

from __future__ import annotations

import statistics
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from profiling.experiments.record import Result

from .axis import Axis, linear, logarithmic
from .cells import Arm, Cell
from .chart import Point, Series, Style, line_chart
from .curves import Evaluation, evaluations

PERCENT = 100
_MEGABYTE = 1e6
# Readable on white and on black; the first eight after Okabe and Ito, apart for colour-blind eyes too.
_COLOURS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f8f00", "#808080",
    "#9467bd", "#a0522d", "#17a2a2", "#e75480",
)  # fmt: skip
_DASHES = ("", "6 3", "2 3", "10 3 2 3")

Styles = Mapping[Arm, Style]


def choose_styles(arms: Iterable[Arm]) -> dict[Arm, Style]:
    """A colour for each method, dashes for each of its extras, in the order of `arms`; both repeat where they end."""
    styles: dict[Arm, Style] = {}
    by_method: dict[str, list[Arm]] = {}
    for arm in arms:
        of_method = by_method.setdefault(arm.method, [])
        of_method.append(arm)
        colour = _COLOURS[list(by_method).index(arm.method) % len(_COLOURS)]
        styles[arm] = Style(colour, _DASHES[(len(of_method) - 1) % len(_DASHES)])
    return styles


class _View(NamedTuple):
    """What accuracy is drawn against. `starts` where the accuracy before the first round has its place, at zero."""

    name: str
    axis: Callable[[Sequence[float]], Axis]
    place: Callable[[Evaluation], float | None]
    starts: bool


def _megabytes(evaluation: Evaluation) -> float:
    return evaluation.bytes_total / _MEGABYTE


_VIEWS = (
    _View("rounds", partial(linear, "round"), lambda one: one.round, starts=True),
    _View("bytes", partial(logarithmic, "MB, up and down, all devices"), _megabytes, starts=False),
    _View("device time", partial(linear, "modelled s of the slowest devices"), lambda one: one.device_s, starts=True),
)


def cell_charts(cell: Cell, styles: Styles) -> list[ET.Element]:
    """All charts that the cell has figures for: without a device in the profile, none against its time."""
    charts = [_accuracy(cell, styles, view) for view in _VIEWS]
    return [chart for chart in (*charts, _drift(cell, styles)) if chart is not None]


def _accuracy(cell: Cell, styles: Styles, view: _View) -> ET.Element | None:
    series = []
    for arm, seeds in cell.arms.items():
        lines = [_line(result, view) for result in seeds.values()]
        if any(x is None for line in lines for x, _ in line):
            return None
        series.append(Series(arm.label, styles[arm], [_point(places) for places in zip(*lines, strict=True)]))
    x = view.axis([point.x for one in series for point in one.points])
    return line_chart(f"{cell.title}: accuracy against {view.name}", x, _percent_axis(series), series)


def _line(result: Result, view: _View) -> list[tuple[float | None, float]]:
    start = [(0.0, result.start_accuracy * PERCENT)] if view.starts else []
    return [*start, *((view.place(one), one.accuracy * PERCENT) for one in evaluations(result))]


def _point(places: Sequence[tuple[float | None, float]]) -> Point:
    """Of the same evaluation of every seed."""
    values = [y for _, y in places]
    return Point(
        statistics.fmean(x for x, _ in places if x is not None), statistics.fmean(values), min(values), max(values)
    )


def _percent_axis(series: Sequence[Series]) -> Axis:
    return linear("accuracy, %", range_of(series))


def range_of(series: Sequence[Series]) -> list[float]:
    """The ends of all bands."""
    return [value for one in series for point in one.points for value in (point.low, point.high)]


def _drift(cell: Cell, styles: Styles) -> ET.Element | None:
    lines = ((arm, _drift_points(list(seeds.values()))) for arm, seeds in cell.arms.items())
    series = [Series(arm.label, styles[arm], points) for arm, points in lines if points]
    if not series:
        return None
    x = linear("round", [point.x for one in series for point in one.points])
    return line_chart(f"{cell.title}: client drift", x, linear("distance / mean change", range_of(series)), series)


def _drift_points(results: Sequence[Result]) -> list[Point]:
    """Of the rounds in which something changed, for every seed."""
    rounds = zip(*(result.rounds for result in results), strict=True)
    drifts = [(same[0].round, [one.drift for one in same if one.drift is not None]) for same in rounds]
    return [
        Point(number, statistics.fmean(values), min(values), max(values))
        for number, values in drifts
        if len(values) == len(results)
    ]
