"""A device's share of the ranks, the same in every module."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from profiling.experiments.methods.shares import first_slots

MASKS = arrays(np.bool_, (3, 5))


@given(MASKS)
def test_the_whole_share_is_all_that_lives(alive: np.ndarray) -> None:
    assert np.array_equal(first_slots(alive, 1.0), alive)


@given(MASKS, st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_share_is_part_of_a_larger_one(alive: np.ndarray, one: float, other: float) -> None:
    smaller, larger = first_slots(alive, min(one, other)), first_slots(alive, max(one, other))
    assert not (smaller & ~larger).any()


@given(MASKS, st.floats(0, 1))
def test_a_module_with_ranks_keeps_at_least_one(alive: np.ndarray, share: float) -> None:
    assert np.array_equal(first_slots(alive, share).any(axis=1), alive.any(axis=1))


def test_half_of_four_is_the_first_two() -> None:
    alive = np.array([[True, True, True, True], [False, True, True, False]])
    assert first_slots(alive, 0.5).tolist() == [[True, True, False, False], [False, True, False, False]]
