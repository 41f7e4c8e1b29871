from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.cost import Shape, Work, micro_batches, peak_bytes, plan, step_s
from edge_agent.wire.errors import BudgetError
from edge_agent.wire.messages import Capability, CostTable

COST = CostTable(
    base_bytes=60_000_000,
    token_bytes=30_000,
    pair_bytes=50,
    supervisor_bytes=30_000_000,
    file_bytes=40_000_000,
    forward_us=(100.0, 20.0, 0.01),
    backward_us=(200.0, 50.0, 0.03),
    threads=2,
)
SHAPE = Shape(
    batch=8,
    token_buckets=(128, 64, 32),
    lowest_block=0,
    d_model=384,
    living_parameters=300_000,
    trained_parameters=(50_000,) * 6,
    head_parameters=3_000,
    mapped_bytes=11_000_000,
)
WORK = Work(
    micro_batch=2,
    tokens=10,
    batch=8,
    lowest_block=4,
    blocks=6,
    d_model=100,
    living_parameters=1000,
    trained_parameters=500,
    head_parameters=10,
)


def _device(budget_bytes: int) -> Capability:
    return Capability(budget_bytes=budget_bytes, total_memory_bytes=2**30, link_bytes_per_s=10**6, cost=COST)


def test_the_peak_is_the_sum_that_the_docstring_names() -> None:
    expected = 30_000_000 + 60_000_000 + 30_000 * 20 + 50 * 200 + 4 * 8 * 10 * 100 * 3 + 8 * 1010 + 24 * 510 + 7
    assert peak_bytes(COST, WORK, 7) == expected


def test_a_step_is_forward_everywhere_and_backward_where_trained() -> None:
    forward, backward = 100 + 20 * 10 + 0.01 * 100, 200 + 50 * 10 + 0.03 * 100
    assert step_s(COST, WORK) == pytest.approx(8 * (6 * forward + 2 * backward) / 1e6)


@given(
    st.sampled_from(["micro_batch", "tokens", "batch", "living_parameters", "trained_parameters", "head_parameters"]),
    st.integers(1, 1000),
)
def test_more_of_anything_never_costs_less(field: str, more: int) -> None:
    larger = dataclasses.replace(WORK, **{field: getattr(WORK, field) + more})
    assert peak_bytes(COST, larger, 0) >= peak_bytes(COST, WORK, 0)
    assert step_s(COST, larger) >= step_s(COST, WORK)
    assert peak_bytes(COST, dataclasses.replace(WORK, lowest_block=3), 0) > peak_bytes(COST, WORK, 0)


def test_a_large_budget_gets_everything() -> None:
    chosen = plan(_device(10**9), SHAPE)
    assert (chosen.micro_batch, chosen.tokens, chosen.lowest_block) == (8, 128, 0)


def test_as_the_budget_shrinks_the_micro_batch_goes_first_then_depth_then_tokens() -> None:
    plans = []
    for budget in range(160_000_000, 104_000_000, -100_000):
        try:
            chosen = plan(_device(budget), SHAPE)
        except BudgetError:
            break
        assert chosen.predicted_bytes <= budget
        plans.append((chosen.tokens, -chosen.lowest_block, chosen.micro_batch))
    assert plans == sorted(plans, reverse=True)
    assert len(set(plans)) > 6


@given(st.integers(1, 200_000_000))
def test_the_smallest_budget_that_an_error_names_is_the_smallest_that_works(budget: int) -> None:
    try:
        plan(_device(budget), SHAPE)
    except BudgetError as error:
        assert plan(_device(error.smallest_budget_bytes), SHAPE).predicted_bytes <= error.smallest_budget_bytes
        with pytest.raises(BudgetError):
            plan(_device(error.smallest_budget_bytes - 1), SHAPE)


def test_depth_never_exceeds_what_the_coordinator_asks() -> None:
    assert plan(_device(10**9), dataclasses.replace(SHAPE, lowest_block=4)).lowest_block == 4
    assert plan(_device(10**9), dataclasses.replace(SHAPE, lowest_block=6)).lowest_block == 6


def test_micro_batches_are_at_most_the_batch() -> None:
    assert micro_batches(8) == (8, 4, 2, 1)
    assert micro_batches(5) == (4, 2, 1)
    assert micro_batches(1) == (1,)


def test_planning_imports_no_numpy_because_the_supervisor_stays_resident() -> None:
    code = "import sys, edge_agent.wire.cost; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
