from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.enrolment.pace import MOST_ADDRESSES, Pace


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.floats(1, 20), st.floats(0.1, 5))
def test_no_more_pass_than_the_burst_and_what_came_since(gaps_s: list[float], burst: float, per_s: float) -> None:
    pace, now_s, passed = Pace(burst, per_s), 0.0, 0
    for gap_s in gaps_s:
        now_s += gap_s
        passed += pace.wait_s("a", now_s) == 0
        assert passed <= burst + now_s * per_s + 1e-6


def test_whoever_waits_as_told_passes() -> None:
    pace = Pace(burst=1, per_s=0.5)
    assert pace.wait_s("a", 0.0) == 0
    assert pace.wait_s("a", 0.0) == 2
    assert pace.wait_s("b", 0.0) == 0
    assert pace.wait_s("a", 2.0) == 0


def test_it_remembers_so_many_addresses() -> None:
    pace = Pace(burst=1, per_s=0.001)
    for number in range(2 * MOST_ADDRESSES):
        pace.wait_s(str(number), 0.0)
    assert len(pace._left) == MOST_ADDRESSES


def test_an_address_that_is_forgotten_begins_anew() -> None:
    pace = Pace(burst=1, per_s=0.01)
    assert pace.wait_s("a", 0.0) == 0 and pace.wait_s("a", 0.0) > 0
    pace.forget("a")
    assert pace.wait_s("a", 0.0) == 0
