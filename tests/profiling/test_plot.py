from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from profiling.plot import TICKS, line, text, tick_step


@pytest.mark.parametrize("largest", [1e-6, 0.0599, 0.06, 0.1, 1, 6, 6.01, 999, 1e9])
def test_ticks_are_round_and_reach_the_largest_value(largest: float) -> None:
    step = tick_step(largest)
    assert largest <= step * TICKS * (1 + 1e-9)
    assert step * TICKS < largest * 2.6
    assert f"{step:.2g}".strip("0.").split("e")[0].rstrip("0") in {"1", "2", "2.5", "25", "5"}


def test_text_is_escaped_and_lines_have_both_ends() -> None:
    root = ET.Element("svg")
    text(root, 1, 2, "a < b", "end")
    line(root, (0, 1), (2, 3), "red")
    assert ET.tostring(root, encoding="unicode") == (
        '<svg><text x="1.0" y="2.0" text-anchor="end">a &lt; b</text>'
        '<line x1="0.0" y1="1.0" x2="2.0" y2="3.0" stroke="red" /></svg>'
    )
