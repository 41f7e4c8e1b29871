from __future__ import annotations

import dataclasses
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.aggregate import FRACTION_BITS, Aggregator, advance
from edge_agent.wire.codec import MAX_EXAMPLES, Update, apply_delta, decode_delta
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Mask, Module, Rows
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import VALUE_LIMIT, quantise_rows
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=3, classes=2, d_model=4)
FULL = LAYOUT.full_mask()
NAMES = st.sampled_from(sorted(SCHEMES))


def _update(change: Rows, trained: Mask, examples: int, name: str = "fp32", layout: Layout = LAYOUT) -> Update:
    rows = {m.name: change[m.name][slots] for m, slots in layout.living(trained)}
    row_set, _ = quantise_rows(layout, {**rows, HEAD: change[HEAD]}, layout.empty_rows(), trained, SCHEMES[name])
    return Update(1, 0, examples, trained & False, np.zeros(trained.shape, dtype=np.float32), row_set)


def _random(seed: int, sigma: float = 0.01) -> Rows:
    return {n: generator(seed, n).gaussian(t.shape, sigma) for n, t in LAYOUT.empty_rows().items()}


def _device(seed: int, name: str) -> Update:
    draws = generator(seed, "device")
    trained = draws.uniform(6).reshape(2, 3) < 0.6
    return _update(_random(seed), trained, int(draws.integers(1, 5000)[0]) + 1, name)


def _mean(*updates: Update) -> Rows:
    aggregator = Aggregator(LAYOUT)
    for update in updates:
        aggregator.add(update)
    return aggregator.mean()


@given(st.lists(st.integers(0, 60), min_size=1, max_size=7), NAMES, st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_no_bit(seeds: list[int], name: str, random: object) -> None:
    shuffled = list(seeds)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = (_mean(*(_device(seed, name) for seed in order)) for order in (seeds, shuffled))
    assert all(one[table].tobytes() == other[table].tobytes() for table in one)


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), NAMES)
def test_a_rank_is_averaged_over_those_that_trained_it(seeds: list[int], name: str) -> None:
    updates = [_device(seed, name) for seed in seeds]
    mean = _mean(*updates)
    for index, module in enumerate(LAYOUT.modules):
        for slot in range(LAYOUT.slots):
            here = [u for u in updates if u.changes.ranks[index, slot]]
            place = [int(u.changes.ranks[index, :slot].sum()) for u in here]
            rows = [u.changes.rows()[module.name][p].astype(np.float64) for u, p in zip(here, place, strict=True)]
            expected = np.average(rows, axis=0, weights=[u.examples for u in here]) if here else np.zeros(module.width)
            assert np.allclose(mean[module.name][slot], expected, rtol=1e-6, atol=1e-8)


def test_a_single_device_s_change_is_the_mean() -> None:
    change = _random(4)
    mean = _mean(_update(change, FULL, 1000))
    assert all(np.allclose(mean[name], change[name], rtol=0, atol=2.0**-FRACTION_BITS) for name in change)


def test_head_rows_are_averaged_over_those_that_sent_them() -> None:
    one, other = _random(1), _random(2)
    other[HEAD][0] = 0
    mean = _mean(_update(one, FULL, 10), _update(other, FULL, 30))
    assert np.allclose(mean[HEAD][0], one[HEAD][0])
    assert np.allclose(mean[HEAD][1], (one[HEAD][1] + 3 * other[HEAD][1]) / 4)


def test_the_largest_round_does_not_overflow() -> None:
    change = {name: np.full(table.shape, -VALUE_LIMIT, np.float32) for name, table in LAYOUT.empty_rows().items()}
    aggregator = Aggregator(LAYOUT)
    for _ in range(4):
        aggregator.add(_update(change, FULL, MAX_EXAMPLES // 4))
    assert all((table == -VALUE_LIMIT).all() for table in aggregator.mean().values())
    assert math.log2(VALUE_LIMIT) + math.log2(MAX_EXAMPLES) + FRACTION_BITS < 63


def test_too_many_examples_and_impossible_values_are_refused_and_change_nothing() -> None:
    aggregator = Aggregator(LAYOUT)
    aggregator.add(_update(_random(1), FULL, MAX_EXAMPLES))
    before = aggregator.mean()
    with pytest.raises(PayloadError, match="at most"):
        aggregator.add(_update(_random(2), FULL, 1))
    fresh = Aggregator(LAYOUT)
    for value in (np.nan, np.inf, VALUE_LIMIT + 1):
        change = _random(3)
        change[HEAD][1, 0] = value
        with np.errstate(invalid="ignore"), pytest.raises(PayloadError, match="head"):
            fresh.add(_update(change, FULL, 1))
    assert all(np.array_equal(aggregator.mean()[name], before[name]) for name in before)
    assert not any(table.any() for table in fresh.mean().values())


def test_nobody_s_round_moves_nothing() -> None:
    assert not any(table.any() for table in _mean().values())


@given(NAMES, st.integers(0, 50))
def test_the_coordinator_holds_what_the_broadcast_gives(name: str, seed: int) -> None:
    state = seed_state(LAYOUT, 1)
    mask = generator(seed).uniform(6).reshape(2, 3) < 0.7
    step = advance(state, _random(seed), _random(seed + 1, 0.001), mask, SCHEMES[name])
    received = apply_delta(state, decode_delta(step.delta, LAYOUT))
    assert received.version == step.state.version == 1
    assert np.array_equal(received.mask, mask)
    assert all(received.rows[table].tobytes() == step.state.rows[table].tobytes() for table in received.rows)


@settings(max_examples=30)
@given(NAMES, st.integers(0, 50))
def test_what_was_broadcast_plus_the_residual_is_what_was_averaged(name: str, seed: int) -> None:
    state, residual = seed_state(LAYOUT, 1), LAYOUT.empty_rows()
    expected = {table: rows.astype(np.float64) for table, rows in state.rows.items()}
    for round_ in range(4):
        mean = _random(seed + round_)
        expected = {table: expected[table] + mean[table] for table in expected}
        step = advance(state, mean, residual, FULL, SCHEMES[name])
        state, residual = step.state, step.residual
    assert all(np.allclose(state.rows[t] + residual[t], expected[t], atol=1e-5) for t in expected)


def test_pruned_ranks_lose_rows_and_residual_and_unchanged_rows_are_not_sent() -> None:
    mean, residual = _random(1), _random(2)
    mean["low"][0] = 0
    mean[HEAD][1] = 0
    mask = np.array([[True, True, False], [True, True, True]])
    step = advance(seed_state(LAYOUT, 1), mean, residual, mask, SCHEMES["int8"])
    changes = decode_delta(step.delta, LAYOUT).changes
    assert changes.ranks.tolist() == [[False, True, False], [True, True, True]]
    assert changes.classes.tolist() == [True, False]
    assert np.array_equal(step.residual["low"][0], residual["low"][0])
    assert not step.residual["low"][2].any() and not step.state.rows["low"][2].any()


def test_no_rank_is_revived() -> None:
    state = dataclasses.replace(seed_state(LAYOUT, 1), mask=~FULL)
    with pytest.raises(PayloadError, match="revives"):
        advance(state, _random(1), LAYOUT.empty_rows(), FULL, SCHEMES["int8"])


def test_memory_does_not_grow_with_the_number_of_devices() -> None:
    layout = Layout((Module("wide", 0, 3000, 3000),), slots=8, classes=2, d_model=4)
    change = {t.name: np.full((t.rows, t.width), 0.5, np.float32) for t in layout.tables.values()}
    update = _update(change, layout.full_mask(), 10, "int8", layout)
    aggregator = Aggregator(layout)
    aggregator.add(update)
    tracemalloc.start()
    try:
        for _ in range(20):
            aggregator.add(update)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < 8 * 6001 * 8 / 10
