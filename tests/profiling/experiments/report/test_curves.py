from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from profiling.experiments.record import Result
from profiling.experiments.report.curves import Evaluation, accuracy_within, bytes_until, evaluations

Make = Callable[..., Result]
Shares = st.lists(st.floats(0, 1), min_size=1, max_size=8)


def test_evaluations_add_up_what_all_rounds_took(make_result: Make) -> None:
    result = make_result(accuracies=(0.3, 0.5), round_bytes=101, device_s=2.0)
    assert evaluations(result) == [Evaluation(2, 202, 4.0, 0.3), Evaluation(4, 404, 8.0, 0.5)]


def test_without_a_device_there_is_no_time(make_result: Make) -> None:
    assert {one.device_s for one in evaluations(make_result(device_s=None))} == {None}


def test_bytes_are_counted_until_an_accuracy_is_first_reached(make_result: Make) -> None:
    result = make_result(accuracies=(0.3, 0.6, 0.5), round_bytes=100)
    assert bytes_until(result, 0.5) == 400
    assert bytes_until(result, 0.3) == 200
    assert bytes_until(result, 0.61) is None


def test_accuracy_within_a_budget_is_the_last_that_it_pays_for(make_result: Make) -> None:
    result = make_result(accuracies=(0.3, 0.6, 0.5), round_bytes=100)
    assert accuracy_within(result, 199) is None
    assert accuracy_within(result, 200) == 0.3
    assert accuracy_within(result, 599) == 0.6
    assert accuracy_within(result, 10**9) == 0.5


def test_what_an_accuracy_takes_pays_for_it(make_result: Make) -> None:
    @given(Shares, st.floats(0, 1))
    def law(accuracies: list[float], target: float) -> None:
        result = make_result(accuracies=accuracies)
        needed = bytes_until(result, target)
        if needed is None:
            assert max(accuracies) < target
        else:
            reached = accuracy_within(result, needed)
            assert reached is not None and reached >= target

    law()


def test_a_higher_accuracy_never_takes_less(make_result: Make) -> None:
    @given(Shares, st.floats(0, 1), st.floats(0, 1))
    def law(accuracies: list[float], one: float, other: float) -> None:
        result = make_result(accuracies=accuracies)
        low, high = bytes_until(result, min(one, other)), bytes_until(result, max(one, other))
        assert high is None or (low is not None and low <= high)

    law()
