"""A line chart as SVG, to stand inside a page: its text and grid take the page's colours."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from profiling.plot import line, text

from .axis import Axis

LEFT, TOP = 64, 34
CHARACTER = 6.6
"""Width of one of the smaller letters, at the most."""
_WIDTH, _HEIGHT = 486, 260
"""Of what the axes span."""
_BELOW = 46
_LEGEND_LINE, _LEGEND_DASH, _GAP = 17, 22, 14


class Point(NamedTuple):
    """A mean, and the range around it: equal to it where there is none."""

    x: float
    mean: float
    low: float
    high: float


class Style(NamedTuple):
    """Colour of a line, and its dashes: empty for a whole line."""

    colour: str
    dashes: str


class Series(NamedTuple):
    """One line; its points by ascending x."""

    name: str
    style: Style
    points: Sequence[Point]


def line_chart(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> ET.Element:
    """Bands below, lines with dots above, a legend to the right. There is one series at least."""
    legend = 2 * _GAP + _LEGEND_DASH + CHARACTER * max(len(one.name) for one in series)
    height = max(_HEIGHT + _BELOW, _LEGEND_LINE * (len(series) + 1))
    root = start_svg(title, LEFT + _WIDTH + legend, TOP + height)
    _draw_axes(root, x, y)
    for one in series:
        _draw_band(root, x, y, one)
    for one in series:
        _draw_line(root, x, y, one)
    for place, one in enumerate(series):
        _draw_legend(root, place, one)
    return root


def start_svg(title: str, width: float, height: float) -> ET.Element:
    """An image with its title, for eyes and for screen readers."""
    root = ET.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": title})
    ET.SubElement(root, "title").text = title
    text(root, LEFT, 18, title, "start").set("class", "title")
    return root


def _draw_axes(root: ET.Element, x: Axis, y: Axis) -> None:
    for value, label in x.ticks:
        here = _x(x, value)
        line(root, (here, TOP), (here, TOP + _HEIGHT), "currentColor").set("class", "grid")
        text(root, here, TOP + _HEIGHT + 17, label, "middle")
    for value, label in y.ticks:
        here = _y(y, value)
        line(root, (LEFT, here), (LEFT + _WIDTH, here), "currentColor").set("class", "grid")
        text(root, LEFT - 8, here + 4, label, "end")
    text(root, LEFT + _WIDTH / 2, TOP + _HEIGHT + _BELOW - 8, x.label, "middle")
    middle = TOP + _HEIGHT / 2
    text(root, 16, middle, y.label, "middle").set("transform", f"rotate(-90 16 {middle:g})")


def _draw_band(root: ET.Element, x: Axis, y: Axis, series: Series) -> None:
    if all(point.low == point.high for point in series.points):
        return
    above = [(_x(x, point.x), _y(y, point.high)) for point in series.points]
    below = [(_x(x, point.x), _y(y, point.low)) for point in reversed(series.points)]
    attributes = {"points": _joined([*above, *below]), "fill": series.style.colour, "fill-opacity": "0.13"}
    ET.SubElement(root, "polygon", attributes)


def _draw_line(root: ET.Element, x: Axis, y: Axis, series: Series) -> None:
    places = [(_x(x, point.x), _y(y, point.mean)) for point in series.points]
    drawn = ET.SubElement(root, "polyline", {"points": _joined(places), "fill": "none", "class": "series"})
    _stroke(drawn, series.style)
    ET.SubElement(drawn, "title").text = series.name
    for here_x, here_y in places:
        ET.SubElement(root, "circle", cx=f"{here_x:.1f}", cy=f"{here_y:.1f}", r="2.5", fill=series.style.colour)


def _draw_legend(root: ET.Element, place: int, series: Series) -> None:
    left, middle = LEFT + _WIDTH + _GAP, TOP + 8 + _LEGEND_LINE * place
    _stroke(line(root, (left, middle), (left + _LEGEND_DASH, middle), series.style.colour), series.style)
    text(root, left + _LEGEND_DASH + 6, middle + 4, series.name, "start").set("class", "legend")


def _stroke(element: ET.Element, style: Style) -> None:
    element.attrib |= {"stroke": style.colour, "stroke-width": "2"}
    if style.dashes:
        element.set("stroke-dasharray", style.dashes)


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.share(value) * _WIDTH


def _y(axis: Axis, value: float) -> float:
    return TOP + _HEIGHT * (1 - axis.share(value))
