from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from profiling.soak.agenda import Agenda


@given(st.lists(st.integers(0, 5)))
def test_actions_come_in_order_of_time_and_those_of_one_moment_as_they_were_noted(delays_s: list[int]) -> None:
    agenda, done = Agenda(), list[tuple[int, int]]()
    for place, delay_s in enumerate(delays_s):
        agenda.after(delay_s, lambda place=place, delay_s=delay_s: done.append((delay_s, place)))  # type: ignore[misc]
    agenda.run_until(5)
    assert done == sorted((delay_s, place) for place, delay_s in enumerate(delays_s))
    assert (agenda.now_s, agenda.next_s) == (5, math.inf)


def test_what_is_due_later_waits_and_an_action_may_note_another() -> None:
    agenda, times_s = Agenda(), list[float]()
    agenda.after(1, lambda: agenda.after(1, lambda: times_s.append(agenda.now_s)))
    agenda.after(4, lambda: times_s.append(agenda.now_s))
    agenda.run_until(3)
    assert (times_s, agenda.next_s) == ([2], 4)
    agenda.run_next()
    assert times_s == [2, 4]
