from __future__ import annotations

import xml.etree.ElementTree as ET

from profiling.experiments.report.axis import linear
from profiling.experiments.report.chart import Point, Series, Style, line_chart

AXIS = linear("value", [0, 10])


def series(name: str, *points: Point, dashes: str = "") -> Series:
    return Series(name, Style("#d55e00", dashes), points)


def places(line: ET.Element) -> list[tuple[float, float]]:
    pairs = (pair.split(",") for pair in line.attrib["points"].split())
    return [(float(x), float(y)) for x, y in pairs]


def test_every_series_has_a_line_a_dot_a_point_and_its_name() -> None:
    both = [series("a <b>", Point(0, 1, 1, 1), Point(5, 2, 2, 2)), series("c", Point(5, 3, 3, 3))]
    chart = line_chart("title", AXIS, AXIS, both)
    assert len(chart.findall("polyline")) == 2
    assert len(chart.findall("circle")) == 3
    assert {"title", "value", "a <b>", "c"} <= {text.text for text in chart.findall("text")}


def test_more_lies_to_the_right_and_above() -> None:
    (line,) = line_chart("t", AXIS, AXIS, [series("a", Point(1, 2, 2, 2), Point(9, 8, 8, 8))]).findall("polyline")
    (x1, y1), (x2, y2) = places(line)
    assert x1 < x2
    assert y1 > y2


def test_a_band_is_drawn_only_where_there_is_a_range() -> None:
    ranged, single = series("a", Point(1, 5, 4, 6), Point(2, 5, 3, 7)), series("b", Point(1, 5, 5, 5))
    chart = line_chart("t", AXIS, AXIS, [ranged, single])
    (band,) = chart.findall("polygon")
    assert len(places(band)) == 4


def test_the_title_is_there_for_screen_readers() -> None:
    chart = line_chart("what it shows", AXIS, AXIS, [series("a", Point(1, 5, 5, 5))])
    assert chart[0].tag == "title"
    assert chart[0].text == chart.attrib["aria-label"] == "what it shows"
    assert chart.attrib["role"] == "img"


def test_many_series_make_the_image_higher_so_that_all_names_lie_in_it() -> None:
    chart = line_chart("t", AXIS, AXIS, [series(f"s{index}", Point(1, 5, 5, 5)) for index in range(40)])
    height = float(chart.attrib["viewBox"].split()[3])
    assert all(float(text.attrib["y"]) < height for text in chart.findall("text"))


def test_dashes_are_those_of_the_style() -> None:
    chart = line_chart("t", AXIS, AXIS, [series("a", Point(1, 5, 5, 5), dashes="6 3")])
    assert chart.findall("polyline")[0].attrib["stroke-dasharray"] == "6 3"
