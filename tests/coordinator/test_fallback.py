from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coordinator.fallback import last_good

ACCURACIES = st.dictionaries(st.integers(0, 8), st.floats(0, 1), min_size=1)


def test_a_model_that_is_worse_by_more_than_the_margin_returns_to_the_last_good_one() -> None:
    measured = {0: 0.2, 1: 0.7, 2: 0.8, 3: 0.75, 4: 0.5}
    assert last_good(measured, 4, 0.1, kept=(2, 3, 4)) == 3
    assert last_good(measured, 4, 0.04, kept=(2, 3, 4)) == 2


def test_within_the_margin_it_goes_on() -> None:
    assert last_good({1: 0.8, 2: 0.71}, 2, 0.1, kept=(1, 2)) is None


def test_without_a_margin_or_a_measurement_it_goes_on() -> None:
    assert last_good({1: 0.8, 2: 0.1}, 2, 0.0, kept=(1, 2)) is None
    assert last_good({1: 0.8}, 2, 0.1, kept=(1, 2)) is None


def test_where_no_good_one_is_kept_it_goes_on() -> None:
    assert last_good({1: 0.8, 2: 0.3, 3: 0.2}, 3, 0.1, kept=(2, 3)) is None


@given(ACCURACIES, st.integers(0, 8), st.floats(0.01, 1), st.sets(st.integers(0, 8)))
def test_what_it_returns_to_is_kept_earlier_and_good(
    measured: dict[int, float], version: int, margin: float, kept: set[int]
) -> None:
    found = last_good(measured, version, margin, kept)
    if found is not None:
        assert found in kept and found < version
        assert measured[found] >= max(measured.values()) - margin > measured[version]
