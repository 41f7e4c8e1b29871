from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.allocate import Terms, allocate
from edge_agent.wire.cost import Model, Work, budget_for, peak_bytes, step_s
from edge_agent.wire.errors import BudgetError
from edge_agent.wire.messages import Capability, CostTable, Speed
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import Layout, Module
from edge_agent.wire.rng import generator

BLOCKS = 4
LAYOUT = Layout(
    tuple(Module(f"{block}.{name}", block, 300, 300) for block in range(BLOCKS) for name in ("query", "value")),
    slots=4,
    classes=5,
    d_model=300,
)
WIDTH = 601
FULL = LAYOUT.full_mask()
EQUAL = np.zeros((8, 4))
COST = CostTable(
    base_bytes=60_000_000,
    token_bytes=20_000,
    pair_bytes=0,
    supervisor_bytes=30_000_000,
    file_bytes=0,
    expand_us=3.0,
    speeds=tuple(Speed(size, (8.0 / size, 10.0, 0.0), (8.0 / size, 20.0, 0.0)) for size in (1, 8)),
    threads=1,
)
MODEL = Model(blocks=BLOCKS, d_model=300, block_parameters=180_000, block_outputs=600, mapped_bytes=5_000_000)
TERMS = Terms(
    model=MODEL,
    batch=8,
    token_buckets=(64, 32),
    steps=10,
    train_s=1e6,
    upload_s=1e6,
    scheme=SCHEMES["int8"],
)


def _device(budget_bytes: int = 10**9, link_bytes_per_s: int = 10**6) -> Capability:
    return Capability(budget_bytes=budget_bytes, total_memory_bytes=2**32, link_bytes_per_s=link_bytes_per_s, cost=COST)


def _work(lowest_block: int) -> Work:
    """The smallest work at a depth, no rank trained."""
    return Work(MODEL, 1, 0, 64, 8, lowest_block, LAYOUT.parameters(FULL), 0, 5 * 301)


def _importance(seed: int) -> np.ndarray:
    return generator(seed).uniform(32).reshape(8, 4)


def test_a_capable_device_trains_everything() -> None:
    part = allocate(LAYOUT, FULL, EQUAL, _device(), TERMS)
    assert part.trained.all() and part.lowest_block == 0
    assert (part.predicted.micro_batch, part.predicted.tokens) == (8, 64)


@given(st.integers(80_000_000, 110_000_000), st.integers(0, 255), st.integers(0, 30), st.integers(1, 10**6))
def test_the_part_is_a_subset_of_what_lives_and_fits(budget: int, bits: int, seed: int, link: int) -> None:
    mask = FULL & np.array([bits >> i & 1 for i in range(8)], dtype=np.bool_)[:, None]
    terms = dataclasses.replace(TERMS, upload_s=1.0)
    try:
        part = allocate(LAYOUT, mask, _importance(seed), _device(budget, link), terms)
    except BudgetError as error:
        smallest = error.smallest_budget_bytes
        assert smallest > budget
        assert allocate(LAYOUT, mask, _importance(seed), _device(smallest, link), terms)
        return
    assert not (part.trained & ~mask).any()
    assert part.predicted.predicted_bytes <= budget
    assert all(module.block >= part.lowest_block for module, slots in LAYOUT.living(part.trained) if len(slots))
    assert part.trained.sum() * WIDTH <= max(0, link - 5 * 301)


@given(st.integers(0, 30), st.integers(0, 28_000))
def test_the_ranks_are_the_most_important_in_reach(seed: int, room_bytes: int) -> None:
    importance = _importance(seed)
    budget = peak_bytes(COST, _work(2)) + 24 * WIDTH * 4 + room_bytes
    part = allocate(LAYOUT, FULL, importance, _device(budget_for(budget)), TERMS)
    assert part.lowest_block >= 2 and part.trained.sum() >= 4
    left_out = (FULL & ~part.trained)[4:]
    assert not left_out.any() or importance[4:][left_out].max() < importance[part.trained].min()


def test_depth_grows_with_memory() -> None:
    depths = []
    for lowest in range(BLOCKS - 1, -1, -1):
        one_rank_each = 24 * WIDTH * 2 * (BLOCKS - lowest)
        budget = peak_bytes(COST, _work(lowest)) + one_rank_each
        depths.append(BLOCKS - allocate(LAYOUT, FULL, EQUAL, _device(budget_for(budget)), TERMS).lowest_block)
    assert depths == [1, 2, 3, 4]


def test_a_short_deadline_takes_depth_but_leaves_the_top_block() -> None:
    enough_for_two_s = step_s(COST, _work(2)) * TERMS.steps
    part = allocate(LAYOUT, FULL, EQUAL, _device(), dataclasses.replace(TERMS, train_s=enough_for_two_s))
    assert part.lowest_block == 2
    part = allocate(LAYOUT, FULL, EQUAL, _device(), dataclasses.replace(TERMS, train_s=1e-6))
    assert part.lowest_block == 3 and part.trained[6:].all()


def test_a_slow_link_takes_ranks_down_to_the_head_alone() -> None:
    terms = dataclasses.replace(TERMS, upload_s=1.0)
    part = allocate(LAYOUT, FULL, EQUAL, _device(link_bytes_per_s=5 * 301 + 3 * WIDTH), terms)
    assert part.trained.sum() == 3
    part = allocate(LAYOUT, FULL, EQUAL, _device(link_bytes_per_s=1), terms)
    assert not part.trained.any() and part.lowest_block == BLOCKS


def test_equal_importance_spreads_over_the_modules_from_the_top() -> None:
    terms = dataclasses.replace(TERMS, upload_s=1.0)
    part = allocate(LAYOUT, FULL, EQUAL, _device(link_bytes_per_s=5 * 301 + 9 * WIDTH), terms)
    assert part.trained.sum(axis=1).tolist() == [1, 1, 1, 1, 1, 1, 1, 2]


def test_blocks_without_living_ranks_are_not_reached() -> None:
    mask = FULL.copy()
    mask[:4] = False
    assert allocate(LAYOUT, mask, EQUAL, _device(), TERMS).lowest_block == 2
    assert allocate(LAYOUT, ~FULL, EQUAL, _device(), TERMS).lowest_block == BLOCKS


def test_a_budget_too_small_for_the_top_block_is_refused() -> None:
    with pytest.raises(BudgetError) as caught:
        allocate(LAYOUT, FULL, EQUAL, _device(50_000_000), TERMS)
    smallest = caught.value.smallest_budget_bytes
    part = allocate(LAYOUT, FULL, EQUAL, _device(smallest), TERMS)
    assert part.trained.sum() == 2 and part.predicted.tokens == 32
    with pytest.raises(BudgetError):
        allocate(LAYOUT, FULL, EQUAL, _device(smallest - 1), TERMS)
