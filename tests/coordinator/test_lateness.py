"""Where an update counts that comes after its round, and what it weighs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.config import RoundSettings
from coordinator.lateness import Place, place_of, weight
from coordinator.round import Part, Phase, State, begin

SETTINGS = RoundSettings(late_rounds=2)


def state_of(phase: Phase, parts: dict[str, Part] | None = None, settings: RoundSettings = SETTINGS) -> State:
    """Round 5 in the phase."""
    return replace(begin(settings, 5, 0.0), phase=phase, parts=parts or {})


@pytest.mark.parametrize(
    ("number", "part", "place"),
    [
        (5, Part.PENDING, Place.OPEN),
        (5, Part.STORED, Place.NONE),
        (5, Part.DECLINED, Place.NONE),
        (5, None, Place.NONE),
        (4, Part.PENDING, Place.LATE),
        (3, Part.DECLINED, Place.LATE),
        (3, None, Place.LATE),
        (4, Part.STORED, Place.NONE),
        (2, Part.PENDING, Place.NONE),
        (6, Part.PENDING, Place.NONE),
    ],
)
def test_in_an_open_round(number: int, part: Part | None, place: Place) -> None:
    parts = {} if part is None else {"a": part}
    assert place_of(state_of(Phase.OPEN, parts), "a", number) is place


@pytest.mark.parametrize(
    ("number", "place"), [(5, Place.NOT_YET), (4, Place.NOT_YET), (3, Place.NONE), (6, Place.NONE)]
)
def test_between_rounds_it_waits_for_the_next_if_that_is_not_too_late(number: int, place: Place) -> None:
    assert place_of(state_of(Phase.GATHERING), "a", number) is place


def test_after_the_last_round_there_is_no_place() -> None:
    assert place_of(state_of(Phase.FINISHED), "a", 5) is Place.NONE


@given(st.sampled_from(Phase), st.integers(0, 9), st.sampled_from([None, *Part]))
def test_by_default_only_the_open_round_has_a_place(phase: Phase, number: int, part: Part | None) -> None:
    state = state_of(phase, {} if part is None else {"a": part}, RoundSettings())
    assert place_of(state, "a", number) in (Place.OPEN, Place.NONE)


@given(st.integers(1, 2**20), st.integers(0, 9), st.floats(0, 10))
def test_the_later_the_lighter_but_never_nothing(examples: int, late_rounds: int, exponent: float) -> None:
    now, later = weight(examples, late_rounds, exponent), weight(examples, late_rounds + 1, exponent)
    assert 1 <= later <= now <= examples
    assert weight(examples, 0, exponent) == examples


def test_three_rounds_late_weighs_half_by_default() -> None:
    assert weight(100, 3, RoundSettings().late_exponent) == 50
