from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.config import RankSettings, TrainingSettings
from profiling.experiments.record import Result
from profiling.experiments.report.sensitivity import find_curves, sensitivity_charts, settings_of
from profiling.experiments.settings import Options, Profile

Make = Callable[..., Result]
PROFILE = Profile(rounds=6)


def targets(make: Make, *values: float, **others: Any) -> list[Result]:
    return [
        make("rankfleet", options=Options(ranks=RankSettings(target=value)), accuracies=(value / 10,), **others)
        for value in values
    ]


def test_settings_are_named_as_in_configuration_files(make_result: Make) -> None:
    settings = settings_of(make_result().run)
    assert settings["ranks.target"] == "2.0"
    assert settings["training.importance"] == "magnitude"
    assert settings["profile.rank_shares"] == "[1.0]"


def test_a_curve_goes_over_all_values_of_the_setting_in_their_order(make_result: Make) -> None:
    (curve,) = find_curves(targets(make_result, 4.0, 0.5, 2.0))
    assert (curve.model, curve.setting, curve.name) == ("MiniLM-L6", "ranks.target", "rankfleet, banking77, alpha 0.1")
    assert list(curve.points.items()) == [("0.5", [0.05]), ("2.0", [0.2]), ("4.0", [0.4])]


def test_runs_that_differ_in_nothing_or_in_two_settings_make_no_curve(make_result: Make) -> None:
    both = Options(ranks=RankSettings(target=4.0), training=TrainingSettings(importance="energy"))
    assert find_curves([make_result(seed=0), make_result(seed=1)]) == []
    assert find_curves([make_result(), make_result(options=both)]) == []
    assert find_curves([make_result("fedara"), *targets(make_result, 4.0)]) == []


def test_only_seeds_that_every_value_has_are_compared(make_result: Make) -> None:
    made = targets(make_result, 1.0, 4.0, seed=3) + targets(make_result, 4.0, seed=5)
    (curve,) = find_curves(made)
    assert {value: len(seeds) for value, seeds in curve.points.items()} == {"1.0": 1, "4.0": 1}
    assert find_curves(targets(make_result, 1.0, seed=3) + targets(make_result, 4.0, seed=5)) == []


def test_settings_of_the_profile_are_found_too(make_result: Make) -> None:
    made = [make_result(profile=Profile(rounds=6, cohort=cohort)) for cohort in (10, 5)]
    (curve,) = find_curves(made)
    assert curve.setting == "profile.cohort"
    assert list(curve.points) == ["5", "10"]


def test_a_grid_makes_a_curve_for_each_choice_of_the_others_and_names_it(make_result: Make) -> None:
    made = targets(make_result, 1.0, 4.0) + targets(make_result, 1.0, 4.0, profile=Profile(rounds=6, cohort=9))
    curves = find_curves(made)
    assert [curve.setting for curve in curves] == ["profile.cohort"] * 2 + ["ranks.target"] * 2
    names = [curve.name.rpartition(", ")[2] for curve in curves]
    assert names == ["ranks.target=1.0", "ranks.target=4.0", "profile.cohort=5", "profile.cohort=9"]


def test_there_is_a_chart_for_each_setting_with_a_line_for_each_curve(make_result: Make) -> None:
    made = targets(make_result, 1.0, 4.0) + targets(make_result, 1.0, 8.0, dataset="20newsgroups")
    made += [
        make_result("rankfleet", options=Options(training=TrainingSettings(quantisation=q))) for q in ("int4", "int8")
    ]
    charts = sensitivity_charts(find_curves(made))
    titles = [chart.attrib["aria-label"] for chart in charts]
    assert titles == ["MiniLM-L6: accuracy against ranks.target", "MiniLM-L6: accuracy against training.quantisation"]
    assert len(charts[0].findall("polyline")) == 2
    assert {"1.0", "4.0", "8.0"} <= {text.text for text in charts[0].findall("text")}
    assert {"int4", "int8"} <= {text.text for text in charts[1].findall("text")}
