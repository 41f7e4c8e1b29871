from __future__ import annotations

import msgspec
import pytest

from edge_agent.planning import choose_plan
from edge_agent.wire import messages as m
from edge_agent.wire.errors import BudgetError
from edge_agent.workspace import Workspace
from tests.agents import make_terms
from tests.models import BLOCKS
from tests.runs import CAPABILITY

COST = m.CostTable(
    base_bytes=100_000,
    token_bytes=1000,
    pair_bytes=10,
    supervisor_bytes=0,
    file_bytes=0,
    expand_us=5.0,
    speeds=tuple(m.Speed(size, (10.0 / size, 1.0, 0.0), (20.0 / size, 2.0, 0.0)) for size in (1, 2, 4, 8)),
    threads=1,
)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(make_terms(tmp_path_factory.mktemp("agent")))


def capability_with(budget_bytes: int) -> m.Capability:
    return msgspec.structs.replace(CAPABILITY, budget_bytes=budget_bytes, cost=COST)


def test_with_room_nothing_is_left_out(space: Workspace) -> None:
    mask = space.layout.full_mask()
    plan = choose_plan(space, capability_with(2**40), mask, mask, 0, longest=16)
    assert (plan.micro_batch, plan.kept_blocks, plan.tokens, plan.lowest_block) == (8, BLOCKS, 16, 0)
    assert plan.predicted_bytes > COST.base_bytes and plan.predicted_step_s > 0


def test_short_texts_get_short_sequences(space: Workspace) -> None:
    mask = space.layout.full_mask()
    assert choose_plan(space, capability_with(2**40), mask, mask, 0, longest=5).tokens == 8
    assert choose_plan(space, capability_with(2**40), mask, mask, 0, longest=0).tokens == 8


def test_with_less_memory_the_plan_gets_smaller_and_then_impossible(space: Workspace) -> None:
    mask = space.layout.full_mask()
    most = choose_plan(space, capability_with(2**40), mask, mask, 0, longest=16)
    smallest = smallest_budget_bytes(space)
    least = choose_plan(space, capability_with(smallest), mask, mask, 0, longest=16)
    assert (least.micro_batch, least.kept_blocks, least.lowest_block) == (1, 0, BLOCKS - 1)
    assert least.tokens <= most.tokens and least.predicted_bytes < most.predicted_bytes
    with pytest.raises(BudgetError):
        choose_plan(space, capability_with(smallest - 1), mask, mask, 0, longest=16)


def smallest_budget_bytes(space: Workspace) -> int:
    """The budget that the refusal of next to nothing names."""
    mask = space.layout.full_mask()
    with pytest.raises(BudgetError) as raised:
        choose_plan(space, capability_with(1), mask, mask, 0, longest=16)
    return raised.value.smallest_budget_bytes


def test_pruned_ranks_cost_nothing(space: Workspace) -> None:
    full, half = space.layout.full_mask(), space.layout.full_mask()
    half[:, 1:] = False
    of_full, of_half = (choose_plan(space, capability_with(2**40), mask, mask, 0, longest=16) for mask in (full, half))
    assert of_half.predicted_bytes < of_full.predicted_bytes


def test_the_coordinators_lowest_block_is_kept(space: Workspace) -> None:
    mask = space.layout.full_mask()
    for lowest in range(BLOCKS + 1):
        assert choose_plan(space, capability_with(2**40), mask, mask, lowest, longest=16).lowest_block == lowest
