from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.service.patience import LEAST_S, SLOWEST_STEPS, STILL_S, Patience


def test_a_process_whose_processor_time_stands_still_is_hung() -> None:
    patience = Patience(0.0)
    assert patience.lost(0.5, 1.0) is None
    assert patience.lost(0.5, STILL_S) is None
    assert "no processor time" in (patience.lost(0.5, STILL_S + 1.1) or "")


def test_before_the_first_step_and_behind_the_last_only_the_processor_counts() -> None:
    patience = Patience(0.0)
    for hour in range(10):
        assert patience.lost(1.0 + hour, hour * STILL_S) is None
    patience.heard(1, 2, 10_000.0)
    patience.heard(2, 2, 10_001.0)
    assert patience.lost(99.0, 50_000.0) is None


def test_a_trainer_that_computes_without_a_step_is_hung() -> None:
    patience = Patience(0.0)
    patience.heard(1, 99, 100.0)
    patience.heard(3, 99, 102.0)
    assert patience.lost(1.0, 102.0 + LEAST_S) is None
    assert "the slowest took 1.0 s" in (patience.lost(2.0, 103.0 + LEAST_S) or "")


@given(step_s=st.floats(0.01, 3600.0), jitter=st.lists(st.floats(0.2, SLOWEST_STEPS - 1), max_size=50))
def test_steps_that_vary_within_reason_are_never_hung_however_slow(step_s: float, jitter: list[float]) -> None:
    patience, now_s, cpu_s = Patience(0.0), 0.0, 0.0
    for number, factor in enumerate([1.0, 1.0, *jitter], start=1):
        ends_s = now_s + step_s * factor
        while now_s < ends_s:
            now_s, cpu_s = min(ends_s, now_s + STILL_S / 2), cpu_s + 0.01
            assert patience.lost(cpu_s, now_s) is None
        patience.heard(number, 10_000, now_s)
