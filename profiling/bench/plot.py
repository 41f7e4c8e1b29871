"""A plot of the benchmark as SVG: peak RSS against step time, one mark a row; left and low is good."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import NamedTuple

from profiling.plot import TICKS, line, text, tick_step

from .engine import Row

WIDTH, HEIGHT = 760, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 60
CHARACTER, LINE = 6.5, 13
_GRID = "#dddddd"
_COLOURS = {"onnx": "#1b7837", "torch": "#b2182b", "peft": "#2166ac"}
_NAMES = {"onnx": "rankfleet", "torch": "torch", "peft": "PEFT"}


class _Box(NamedTuple):
    """Where a label lies."""

    x: float
    y: float
    width: float

    def meets(self, other: _Box) -> bool:
        """Whether the two cannot both be read."""
        return abs(self.y - other.y) < LINE and self.x < other.x + other.width and other.x < self.x + self.width


def svg(rows: Sequence[Row]) -> str:
    """The text of the file. `rows` must not be empty."""
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}")
    root.attrib |= {"font-family": "sans-serif", "font-size": "12"}
    ET.SubElement(root, "rect", width=str(WIDTH), height=str(HEIGHT), fill="white")
    step_x = tick_step(max(row.peak_rss_bytes for row in rows) / 1e6)
    step_y = tick_step(max(row.step_s_median for row in rows))
    _axes(root, step_x, step_y)
    text(root, WIDTH / 2, 20, f"{rows[0].model}: one training step", "middle")
    _legend(root, [engine for engine in _NAMES if any(row.engine == engine for row in rows)])
    taken: list[_Box] = []
    for row in rows:
        taken.append(_mark(root, row, (step_x * TICKS, step_y * TICKS), taken))
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _axes(root: ET.Element, step_x: float, step_y: float) -> None:
    for tick in range(TICKS + 1):
        x, y = _x(tick / TICKS), _y(tick / TICKS)
        line(root, (x, TOP), (x, HEIGHT - BOTTOM), _GRID)
        line(root, (LEFT, y), (WIDTH - RIGHT, y), _GRID)
        text(root, x, HEIGHT - BOTTOM + 18, f"{tick * step_x:g}", "middle")
        text(root, LEFT - 8, y + 4, f"{tick * step_y:.3g}", "end")
    text(root, WIDTH / 2, HEIGHT - 18, "peak RSS of the process, MB", "middle")
    label = text(root, 18, HEIGHT / 2, "step time, s", "middle")
    label.set("transform", f"rotate(-90 18 {HEIGHT / 2:g})")


def _legend(root: ET.Element, engines: Sequence[str]) -> None:
    for index, engine in enumerate(engines):
        x = WIDTH - RIGHT - 90 * (len(engines) - index)
        _circle(root, x, 16, engine)
        text(root, x + 10, 20, _NAMES[engine], "start")


def _mark(root: ET.Element, row: Row, ends: tuple[float, float], taken: Sequence[_Box]) -> _Box:
    """Where the label came to lie: beside its mark, or below what is there already."""
    x, y = _x(row.peak_rss_bytes / 1e6 / ends[0]), _y(row.step_s_median / ends[1])
    _circle(root, x, y, row.engine)
    width, to_the_left = len(row.mode) * CHARACTER, x > WIDTH * 3 / 4
    box = _Box(x - 9 - width if to_the_left else x + 9, y + 4, width)
    while any(box.meets(other) for other in taken):
        box = box._replace(y=box.y + LINE)
    text(root, box.x + width if to_the_left else box.x, box.y, row.mode, "end" if to_the_left else "start")
    return box


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _circle(root: ET.Element, x: float, y: float, engine: str) -> None:
    ET.SubElement(root, "circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="5", fill=_COLOURS[engine])
