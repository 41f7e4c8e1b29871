"""The plots of a report. One that has nothing to show is left out: no line stands for what was not measured."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

from edge_agent.round_log import PhaseEntry
from profiling.experiments.report.axis import Axis, linear
from profiling.experiments.report.chart import Point, Series, Style, line_chart
from profiling.experiments.report.rank_map import draw_maps
from profiling.rounds.figures import phases_of
from profiling.rounds.load import Device, Run
from profiling.rounds.ranks import RankMap
from profiling.rounds.summary import budgeted_bytes, total_of, working

_MB, _PERCENT = 1e6, 100
# Readable on white and on black; after Okabe and Ito, apart for colour-blind eyes too.
_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8f8f00", "#808080", "#9467bd", "#a0522d",
)  # fmt: skip
_DASHES = ("", "6 3", "2 3")

Pairs = Sequence[tuple[float, float | None]]


def device_plots(device: Device) -> list[ET.Element]:
    """Memory against the budget, latency, bytes, energy and heat of one device, by round."""
    plots = [_memory(device), *(_by_phase(device, *what) for what in _BY_PHASE), _budget(device)]
    return [plot for plot in plots if plot is not None]


def run_plots(run: Run, ranks: RankMap | None) -> list[ET.Element]:
    """Accuracy against what it took, and the ranks that live."""
    plots = [
        _chart(f"accuracy against {name}", label, "accuracy, %", {"fleet": pairs}) for name, label, pairs in _views(run)
    ]
    maps = [] if ranks is None else [_map(ranks)]
    return [plot for plot in (*plots, *maps) if plot is not None]


def _map(ranks: RankMap) -> ET.Element:
    """No larger than it is drawn: a single map, as wide as a chart, would have letters of twice the size."""
    plot = draw_maps("living ranks", ranks.modules, [("now", ranks.ranks)], ranks.most)
    plot.set("style", f"max-width: {plot.attrib['viewBox'].split()[2]}px")
    return plot


_BY_PHASE: tuple[tuple[str, str, str, float], ...] = (
    ("latency by phase", "s", "wall_s", 1.0),
    ("sent by phase", "kB", "bytes_up", 1e-3),
    ("received by phase", "kB", "bytes_down", 1e-3),
    ("energy by phase", "J", "energy_j", 1.0),
    ("temperature by phase", "degrees Celsius", "temperature_c", 1.0),
    ("clock by phase", "MHz", "clock_hz", 1e-6),
)


def _memory(device: Device) -> ET.Element | None:
    """Anonymous memory by phase, and the budget that bounds it."""
    lines = _phase_lines(device, "peak_anonymous_bytes", 1 / _MB)
    if device.entry is not None and lines:
        rounds = sorted({x for pairs in lines.values() for x, _ in pairs})
        lines["budget"] = [(x, device.entry.budget_bytes / _MB) for x in rounds]
    return _chart(f"{device.name}: peak anonymous memory by phase", "round", "MB", lines)


def _budget(device: Device) -> ET.Element | None:
    """What of the budget was predicted and used."""
    entries = [device.rounds[number] for number in sorted(device.rounds)]
    lines: dict[str, Pairs] = {
        "predicted": [(entry.round, entry.report.predicted_bytes / _MB) for entry in entries],
        "measured": [(entry.round, budgeted_bytes(entry) / _MB) for entry in entries],
    }
    if device.entry is not None:
        lines["budget"] = [(entry.round, device.entry.budget_bytes / _MB) for entry in entries]
    return _chart(f"{device.name}: what of the budget was used", "round", "MB", lines)


def _by_phase(device: Device, name: str, unit: str, field: str, factor: float) -> ET.Element | None:
    return _chart(f"{device.name}: {name}", "round", unit, _phase_lines(device, field, factor))


def _phase_lines(device: Device, field: str, factor: float) -> dict[str, Pairs]:
    return {phase: list(_phase_line(device, phase, field, factor)) for phase in phases_of(device) if phase != "wait"}


def _phase_line(device: Device, phase: str, field: str, factor: float) -> Iterator[tuple[float, float | None]]:
    for key in sorted(key for key in device.phases if key.phase == phase and key.round > 0):
        value = getattr(device.phases[key], field)
        yield key.round, None if value is None else value * factor


def _views(run: Run) -> Iterator[tuple[str, str, Pairs]]:
    """Accuracy at the start of each round, against what all rounds before it took."""
    accuracies = accuracies_of(run)
    yield from (
        ("bytes", "MB, up and down, all devices", _spent(run, accuracies, _bytes_of, 1 / _MB, sum)),
        ("time", "s that the slowest device works", _spent(run, accuracies, _seconds_of, 1.0, max)),
        ("energy", "J, all devices", _spent(run, accuracies, _joules_of, 1.0, sum)),
    )


def accuracies_of(run: Run) -> dict[int, float]:
    """Accuracy on the hold-outs by round, of the model that the round started from.

    The coordinator's where its folder was given, else over what the devices reported.
    """
    if run.records:
        return {record.round: record.accuracy for record in run.records if record.accuracy is not None}
    numbers = sorted({number for device in run.devices for number in device.rounds})
    found = {}
    for number in numbers:
        reports = [device.rounds[number].report for device in run.devices if number in device.rounds]
        total = sum(report.holdout_total for report in reports)
        if total:
            found[number] = sum(report.holdout_correct for report in reports) / total
    return found


def _spent(
    run: Run,
    accuracies: dict[int, float],
    of: Callable[[Sequence[PhaseEntry]], float | None],
    factor: float,
    over: Callable[[list[float]], float],
) -> Pairs:
    """Places and accuracies; none where one device does not know what it took."""
    numbers = sorted(accuracies)
    costs: list[float] = []
    for number in numbers:
        phases = [device.of_round(number) for device in run.devices]
        known = [of(entries) for entries in phases if entries]
        if not known or None in known:
            return []
        costs.append(over([value for value in known if value is not None]) * factor)
    before = [0.0, *accumulate(costs)]
    return [(before[place], accuracies[number] * _PERCENT) for place, number in enumerate(numbers)]


def _bytes_of(entries: Sequence[PhaseEntry]) -> float | None:
    up, down = total_of(entries, "bytes_up"), total_of(entries, "bytes_down")
    return None if up is None or down is None else up + down


def _seconds_of(entries: Sequence[PhaseEntry]) -> float | None:
    return total_of(working(entries), "wall_s")


def _joules_of(entries: Sequence[PhaseEntry]) -> float | None:
    return total_of(working(entries), "energy_j")


def _chart(title: str, x_label: str, y_label: str, lines: dict[str, Pairs]) -> ET.Element | None:
    series = []
    for place, (name, pairs) in enumerate(lines.items()):
        points = [Point(x, y, y, y) for x, y in pairs if y is not None]
        if points:
            style = Style(_COLOURS[place % len(_COLOURS)], _DASHES[place // len(_COLOURS) % len(_DASHES)])
            series.append(Series(name, style, points))
    if not series:
        return None
    xs = [point.x for one in series for point in one.points]
    ys = [point.mean for one in series for point in one.points]
    return line_chart(title, linear(x_label, xs), _from_zero(y_label, ys), series)


def _from_zero(label: str, values: Sequence[float]) -> Axis:
    return linear(label, [0.0, *values])
