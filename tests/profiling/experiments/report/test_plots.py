from __future__ import annotations

from collections.abc import Callable

from profiling.experiments.record import Result
from profiling.experiments.report.cells import Arm, group
from profiling.experiments.report.plots import cell_charts, choose_styles

Make = Callable[..., Result]


def test_a_method_has_one_colour_and_each_of_its_extras_other_dashes() -> None:
    styles = choose_styles([Arm("a", ""), Arm("a", "int8"), Arm("b", "")])
    assert styles[Arm("a", "")].colour == styles[Arm("a", "int8")].colour != styles[Arm("b", "")].colour
    assert styles[Arm("a", "")].dashes == styles[Arm("b", "")].dashes == ""
    assert styles[Arm("a", "int8")].dashes


def test_a_cell_has_a_chart_for_every_view_with_a_line_for_every_arm(results: list[Result]) -> None:
    (only,) = group(results)
    charts = cell_charts(only.cells[0], choose_styles(only.options))
    assert [chart.attrib["aria-label"].partition(": ")[2] for chart in charts] == [
        "accuracy against rounds", "accuracy against bytes", "accuracy against device time", "client drift",
    ]  # fmt: skip
    assert [len(chart.findall("polyline")) for chart in charts] == [9, 9, 9, 8]
    assert [len(chart.findall("circle")) for chart in charts] == [9 * 4, 9 * 3, 9 * 4, 8 * 6]


def test_without_a_device_there_is_no_chart_against_its_time(make_result: Make) -> None:
    (only,) = group([make_result(device_s=None), make_result("head")])
    charts = cell_charts(only.cells[0], choose_styles(only.options))
    assert not any("device time" in chart.attrib["aria-label"] for chart in charts)


def test_where_nothing_changed_there_is_no_drift_to_show(make_result: Make) -> None:
    (only,) = group([make_result("head")])
    charts = cell_charts(only.cells[0], choose_styles(only.options))
    assert not any("drift" in chart.attrib["aria-label"] for chart in charts)


def test_bands_span_the_seeds(make_result: Make) -> None:
    single = group([make_result()])[0]
    ranged = group([make_result(), make_result(seed=1, accuracies=(0.1, 0.2, 0.3))])[0]
    for one, bands in ((single, 0), (ranged, 1)):
        assert len(cell_charts(one.cells[0], choose_styles(one.options))[0].findall("polygon")) == bands
