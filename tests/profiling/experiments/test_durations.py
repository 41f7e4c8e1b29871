"""How long runs will take."""

from __future__ import annotations

import pytest

from profiling.experiments.durations import Durations
from profiling.experiments.settings import Profile
from tests.experiments import make_result, make_run

FEDLORA = {"method": "fedlora"}
OTHER_DATA = {"dataset": "banking77"}


def test_nothing_is_expected_of_runs_with_another_model() -> None:
    durations = Durations([make_result(make_run(pack_sha256="f" * 64))])
    assert durations.expected_s(make_run()) is None


def test_runs_of_another_profile_count_by_their_trainings() -> None:
    durations = Durations([make_result(make_run(profile=Profile(rounds=60, cohort=4)), wall_s=60)])
    assert durations.expected_s(make_run(profile=Profile(rounds=30, cohort=2))) == pytest.approx(15)


def test_the_median_of_the_most_similar_runs_is_expected() -> None:
    durations = Durations([make_result(make_run(seed=seed), wall_s=wall_s) for seed, wall_s in enumerate((10, 11, 90))])
    assert durations.expected_s(make_run(seed=7)) == pytest.approx(11)
    assert durations.expected_s(make_run(**FEDLORA)) == pytest.approx(11)
    durations.add(make_run(**FEDLORA), 40)
    assert durations.expected_s(make_run(**FEDLORA)) == pytest.approx(40)
    assert durations.expected_s(make_run(**OTHER_DATA)) == pytest.approx(25.5)


def test_time_left_is_shared_by_the_workers() -> None:
    durations = Durations([make_result(make_run(), wall_s=60)])
    pending, running = [make_run(seed=1), make_run(seed=2)], {make_run(seed=3): 20.0, make_run(seed=4): 100.0}
    assert durations.left_s(pending, running, 2) == pytest.approx((60 + 60 + 40 + 0) / 2)


def test_time_left_is_unknown_while_a_run_is() -> None:
    durations = Durations([make_result(make_run())])
    assert durations.left_s([make_run(pack_sha256="f" * 64)], {}, 1) is None
    assert durations.left_s([], {}, 1) == 0
