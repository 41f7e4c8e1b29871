from __future__ import annotations

from collections.abc import Callable

from coordinator.config import RankSettings
from profiling.experiments.record import Result
from profiling.experiments.report.contents import collect
from profiling.experiments.report.page import page
from profiling.experiments.settings import Options

Make = Callable[..., Result]


def test_plots_and_rank_maps_are_shown_for_every_cell(results: list[Result]) -> None:
    text = page(collect(results, [], "command"))
    assert text.count("<svg ") == 4 * (4 + 2)
    assert text.count("living ranks of rankfleet</title>") == text.count("living ranks of fedara</title>") == 4


def test_names_are_escaped(make_result: Make) -> None:
    text = page(collect([make_result(extras="<script>alert(1)</script>")], [], "a & b"))
    assert "<script" not in text
    assert "a &amp; b" in text


def test_colours_follow_the_reader(results: list[Result]) -> None:
    text = page(collect(results, [], "command"))
    assert "prefers-color-scheme: dark" in text
    assert 'fill="white"' not in text and 'fill="black"' not in text


def test_the_sweep_is_in_the_sensitivity_curves_and_in_no_table(make_result: Make) -> None:
    sweep = [make_result(extras=f"target {t:g}", options=Options(ranks=RankSettings(target=t))) for t in (1.0, 4.0)]
    text = page(collect([make_result()], sweep, "command"))
    assert "accuracy against ranks.target" in text
    assert "target 4" not in text
    assert "Sensitivity" not in page(collect([make_result()], [], "command"))
