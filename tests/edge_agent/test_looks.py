from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.looks import MOST, Looks
from edge_agent.sensors.board import Look

STEPS = st.lists(st.tuples(st.floats(0.01, 10), st.floats(0, 20)), min_size=2, max_size=60)


def at(time_s: float, energy_j: float | None = None, temperature_c: float | None = None, **known: object) -> Look:
    return Look(time_s, energy_j, temperature_c, known.get("clock_hz"), known.get("gpu"), known.get("slowed", ()))  # type: ignore[arg-type]


def filled(looks: list[Look]) -> Looks:
    found = Looks()
    for look in looks:
        found.add(look)
    return found


@given(steps=STEPS, cut=st.floats(0, 1))
def test_the_energy_of_parts_is_the_energy_of_the_whole(steps: list[tuple[float, float]], cut: float) -> None:
    times = list(itertools.accumulate(step for step, _ in steps))
    energies = list(itertools.accumulate(joules for _, joules in steps))
    looks = filled([at(time_s, energy_j) for time_s, energy_j in zip(times, energies, strict=True)])
    middle_s = times[0] + cut * (times[-1] - times[0])
    whole = looks.between(times[0], times[-1]).energy_j
    first, second = looks.between(times[0], middle_s).energy_j, looks.between(middle_s, times[-1]).energy_j
    assert whole == pytest.approx(energies[-1] - energies[0])
    assert first is not None and second is not None and min(first, second) >= -1e-9
    assert first + second == pytest.approx(whole)


def test_energy_between_looks_lies_on_a_straight_line() -> None:
    assert filled([at(10, 0.0), at(20, 40.0)]).between(12, 17).energy_j == pytest.approx(20.0)


def test_heat_clock_and_throttling_are_the_extremes_within_and_around() -> None:
    looks = filled(
        [
            at(0, temperature_c=90.0, clock_hz=1, slowed=("throttled",)),
            at(10, temperature_c=50.0, clock_hz=1500),
            at(20, temperature_c=60.0, clock_hz=1200, gpu=306, slowed=("undervoltage",)),
            at(30, temperature_c=55.0, clock_hz=1500),
            at(40, temperature_c=95.0),
        ]
    )
    seen = looks.between(15, 25)
    assert (seen.temperature_c, seen.clock_hz, seen.gpu_clock_hz) == (60.0, 1200, 306)
    assert seen.slowed == ("undervoltage",)


def test_a_phase_shorter_than_a_look_takes_those_around_it() -> None:
    assert filled([at(0, temperature_c=50.0), at(1, temperature_c=52.0)]).between(0.4, 0.5).temperature_c == 52.0


def test_what_the_board_does_not_tell_stays_none() -> None:
    assert filled([at(0), at(1)]).between(0, 1) == (None, None, None, None, ())
    assert Looks().between(0, 1) == (None, None, None, None, ())


def test_a_long_phase_takes_no_more_memory_and_loses_no_extreme_and_no_energy() -> None:
    looks = Looks()
    for second in range(20 * MOST):
        hot = second == 7 * MOST + 3
        looks.add(at(float(second), 2.0 * second, 99.0 if hot else 40.0, slowed=("throttled",) if hot else ()))
    assert len(looks._looks) <= MOST + 1
    seen = looks.between(0.0, 20 * MOST - 1.0)
    assert seen.energy_j == pytest.approx(2.0 * (20 * MOST - 1))
    assert (seen.temperature_c, seen.slowed) == (99.0, ("throttled",))


def test_what_was_booked_is_forgotten_and_the_next_phase_is_whole() -> None:
    looks = filled([at(float(second), 3.0 * second) for second in range(100)])
    looks.forget_before(50.5)
    assert len(looks._looks) == 50
    assert looks.between(50.5, 99.0).energy_j == pytest.approx(3 * 48.5)
