"""Where ranks live: a small map of layers and modules for some of the rounds, side by side."""

from __future__ import annotations

import math
import re
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from profiling.experiments.record import Result
from profiling.plot import text

from .chart import CHARACTER, LEFT, start_svg

_MAPS = 6
_CELL, _GAP, _TOP, _TITLE_CHARACTER = 26, 22, 52, 9
_SLOPE = 55
"""Of the modules' names, in degrees."""
_COLOUR, _DARKEST = "#0072b2", 0.7
_NUMBERED = re.compile(r"^(?:.*?\.)?(\d+)\.(.+)$")


def rank_map(title: str, results: Sequence[Result]) -> ET.Element:
    """Living ranks by layer (rows, the uppermost on top) and module (columns), after up to six rounds from the first
    to the last; the mean over `results`, which are seeds of one method. The darker, the more."""
    rounds = chosen_rounds(len(results[0].rounds))
    maps = [(f"round {number + 1}", _mean_ranks(results, number)) for number in rounds]
    return draw_maps(title, results[0].modules, maps, _most(results))


def draw_maps(title: str, modules: Sequence[str], maps: Sequence[tuple[str, Sequence[float]]], most: int) -> ET.Element:
    """Named maps side by side, each of the ranks of all `modules`; `most` ranks are the darkest."""
    places = [_place(name) for name in modules]
    layers = sorted({layer for layer, _ in places}, reverse=True)
    columns = list(dict.fromkeys(column for _, column in places))
    step = _CELL * len(columns) + _GAP
    names = CHARACTER * max(map(len, columns)) * math.sin(math.radians(_SLOPE)) + _GAP
    root = start_svg(
        title, LEFT + max(step * len(maps), 1.3 * CHARACTER * len(title)), _TOP + _CELL * len(layers) + names
    )
    for place, (name, found) in enumerate(maps):
        left = LEFT + step * place
        text(root, left, _TOP - 8, name, "start")
        for (layer, column), ranks in zip(places, found, strict=True):
            x, y = left + _CELL * columns.index(column), _TOP + _CELL * layers.index(layer)
            _draw_cell(root, (x, y), ranks, most)
        _name_columns(root, left, _TOP + _CELL * len(layers), columns)
    for row, layer in enumerate(layers):
        text(root, LEFT - 8, _TOP + _CELL * (row + 0.65), f"layer {layer}", "end")
    return root


def chosen_rounds(rounds: int) -> list[int]:
    """Places of up to six rounds, evenly from the first to the last."""
    count = min(_MAPS, rounds)
    return sorted({round(place * (rounds - 1) / max(1, count - 1)) for place in range(count)})


def _place(module: str) -> tuple[int, str]:
    """The number of a module's layer and its name there: `encoder.layer.3.output.dense` is 3 and `output`."""
    numbered = _NUMBERED.match(module)
    return (int(numbered[1]), numbered[2].removesuffix(".dense")) if numbered else (0, module)


def _mean_ranks(results: Sequence[Result], number: int) -> list[float]:
    by_module = zip(*(result.rounds[number].ranks for result in results), strict=True)
    return [statistics.fmean(ranks) for ranks in by_module]


def _most(results: Sequence[Result]) -> int:
    return max(1, *(ranks for result in results for one in result.rounds for ranks in one.ranks))


def _draw_cell(root: ET.Element, corner: tuple[float, float], ranks: float, most: int) -> None:
    x, y = corner
    size = str(_CELL - 1)
    opacity = f"{_DARKEST * ranks / most:.3f}"
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": size, "height": size, "class": "cell"}
    ET.SubElement(root, "rect", attributes | {"fill": _COLOUR, "fill-opacity": opacity, "stroke": "currentColor"})
    text(root, x + _CELL / 2, y + _CELL * 0.65, f"{ranks:.2g}", "middle").set("class", "small")


def _name_columns(root: ET.Element, left: float, bottom: float, columns: Sequence[str]) -> None:
    for place, column in enumerate(columns):
        x, y = left + _CELL * (place + 0.6), bottom + 8
        name = text(root, x, y, column, "end")
        name.attrib |= {"transform": f"rotate(-{_SLOPE} {x:.1f} {y:.1f})", "class": "small"}
