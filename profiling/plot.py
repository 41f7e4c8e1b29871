"""What all plots draw with: text and lines of SVG, and round ticks."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

TICKS = 6


def tick_step(largest: float) -> float:
    """The least of 1, 2, 2.5 and 5 times a power of ten of which `TICKS` reach `largest`, which is positive."""
    power = 10.0 ** math.floor(math.log10(largest / TICKS))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10, 20) if power * factor * TICKS >= largest)


def text(root: ET.Element, x: float, y: float, words: str, anchor: str) -> ET.Element:
    """Adds text; `anchor` is the point of it that lies at `x`: start, middle or end."""
    element = ET.SubElement(root, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor})
    element.text = words
    return element


def line(root: ET.Element, start: tuple[float, float], end: tuple[float, float], stroke: str) -> ET.Element:
    """Adds a straight line."""
    (x1, y1), (x2, y2) = start, end
    return ET.SubElement(root, "line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", stroke=stroke)
