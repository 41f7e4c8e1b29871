from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.schedule import Schedule, budget_ranks
from edge_agent.wire.errors import ConfigError


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    rounds = draw(st.integers(1, 60))
    warmup = draw(st.integers(0, rounds - 1))
    final = draw(st.integers(0, rounds - warmup - 1))
    initial = draw(st.integers(1, 1000))
    return Schedule(rounds, initial, draw(st.integers(1, initial)), warmup, final)


@given(schedules())
def test_the_budget_never_grows(schedule: Schedule) -> None:
    budgets = [budget_ranks(schedule, r) for r in range(schedule.rounds + 1)]
    assert budgets == sorted(budgets, reverse=True)


@given(schedules())
def test_it_starts_at_the_initial_and_ends_at_exactly_the_target(schedule: Schedule) -> None:
    for round_ in range(schedule.warmup + 1):
        assert budget_ranks(schedule, round_) == schedule.initial
    for round_ in range(schedule.rounds - schedule.final, schedule.rounds + 1):
        assert budget_ranks(schedule, round_) == schedule.target


def test_the_decay_is_adalora_s_cubic() -> None:
    schedule = Schedule(rounds=14, initial=1000, target=100, warmup=2, final=2)
    for round_ in range(2, 13):
        expected = 100 + 900 * (1 - (round_ - 2) / 10) ** 3
        assert abs(budget_ranks(schedule, round_) - expected) <= 0.5


@pytest.mark.parametrize(
    ("rounds", "initial", "target", "warmup", "final"),
    [(4, 8, 9, 0, 0), (4, 8, 0, 0, 0), (4, 8, 2, 2, 2), (4, 8, 2, -1, 0), (0, 8, 2, 0, 0)],
)
def test_phases_that_do_not_fit_are_refused(rounds: int, initial: int, target: int, warmup: int, final: int) -> None:
    with pytest.raises(ConfigError):
        Schedule(rounds, initial, target, warmup, final)
