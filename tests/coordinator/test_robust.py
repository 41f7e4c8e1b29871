from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from coordinator.config import MEDIAN_TRIM
from coordinator.robust import RobustAggregator, trimmed_mean
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Mask, Module, Rows
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import quantise_rows

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=3, classes=2, d_model=4)
VALUES = st_numpy.arrays(
    np.float32, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.floats(-64, 64, width=32)
)


def an_update(seed: int, trained: Mask, sigma: float = 0.01) -> Update:
    change = {name: generator(seed, name).gaussian(t.shape, sigma) for name, t in LAYOUT.empty_rows().items()}
    rows = {m.name: change[m.name][slots] for m, slots in LAYOUT.living(trained)}
    row_set, _ = quantise_rows(LAYOUT, {**rows, HEAD: change[HEAD]}, LAYOUT.empty_rows(), trained, SCHEMES["int8"])
    return Update(1, 0, 50, trained & False, np.zeros(trained.shape, dtype=np.float32), row_set)


def some(seed: int) -> Update:
    return an_update(seed, generator(seed, "trained").uniform(6).reshape(2, 3) < 0.6)


def mean_of(updates: list[Update], trim: float = 0.25) -> Rows:
    aggregator = RobustAggregator(LAYOUT, trim)
    for update in updates:
        aggregator.add(update)
    return aggregator.mean()


@given(VALUES)
def test_the_largest_trim_is_the_median(values: np.ndarray) -> None:
    np.testing.assert_allclose(trimmed_mean(values, MEDIAN_TRIM), np.median(values, axis=0), rtol=1e-5, atol=1e-5)


@given(VALUES)
def test_no_trim_is_the_mean(values: np.ndarray) -> None:
    np.testing.assert_allclose(trimmed_mean(values, 0), values.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-5)


@given(VALUES, st.floats(0.21, 0.5), st.floats(-64, 64, width=32))
def test_one_liar_among_five_moves_nothing_beyond_the_others(values: np.ndarray, trim: float, lie: float) -> None:
    honest = np.resize(values, (4, values.shape[1]))
    found = trimmed_mean(np.concatenate([honest, np.full((1, values.shape[1]), lie, np.float32)]), trim)
    assert (found >= honest.min(axis=0) - 1e-5).all() and (found <= honest.max(axis=0) + 1e-5).all()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_bit(seeds: list[int], random: object) -> None:
    shuffled = list(seeds)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (mean_of([some(seed) for seed in order]) for order in (seeds, shuffled))
    assert all(one[table].tobytes() == other[table].tobytes() for table in one)


def test_a_rank_is_that_of_the_devices_that_trained_it() -> None:
    alone = LAYOUT.full_mask()
    alone[0, 1] = False
    updates = [an_update(1, LAYOUT.full_mask()), an_update(2, alone), an_update(3, alone)]
    rows = [update.changes.rows() for update in updates]
    found = mean_of(updates, MEDIAN_TRIM)
    np.testing.assert_allclose(found["low"][1], rows[0]["low"][1], rtol=1e-6)
    third = np.median([rows[0]["low"][2], rows[1]["low"][1], rows[2]["low"][1]], axis=0)
    np.testing.assert_allclose(found["low"][2], third, rtol=1e-6)


def test_what_nobody_changed_stays() -> None:
    found = mean_of([an_update(1, LAYOUT.full_mask() & False)])
    assert not found["low"].any() and not found["high"].any()
    assert not any(table.any() for table in mean_of([]).values())


@pytest.mark.parametrize("trim", [0.2, MEDIAN_TRIM])
def test_one_absurd_device_of_five_is_outvoted(trim: float) -> None:
    good = [an_update(seed, LAYOUT.full_mask()) for seed in range(4)]
    found = mean_of([*good, an_update(9, LAYOUT.full_mask(), sigma=10.0)], trim)
    assert max(np.abs(table).max() for table in found.values()) < 0.1
