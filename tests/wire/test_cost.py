from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.cost import Model, Shape, Work, in_turn, model_of, peak_bytes, plan, step_s, usable_bytes
from edge_agent.wire.errors import BudgetError, EngineError
from edge_agent.wire.messages import Capability, CostTable, Speed
from edge_agent.wire.pack import load_manifest
from tests.models import tiny_pack

COST = CostTable(
    base_bytes=60_000_000,
    token_bytes=30_000,
    pair_bytes=50,
    supervisor_bytes=30_000_000,
    file_bytes=40_000_000,
    expand_us=3000.0,
    speeds=(
        Speed(1, (100.0, 20.0, 0.01), (200.0, 50.0, 0.03)),
        Speed(2, (60.0, 20.0, 0.01), (120.0, 50.0, 0.03)),
        Speed(4, (30.0, 20.0, 0.01), (60.0, 50.0, 0.03)),
        Speed(8, (20.0, 20.0, 0.01), (40.0, 50.0, 0.03)),
    ),
    threads=1,
)
MODEL = Model(blocks=6, d_model=384, block_parameters=1_800_000, block_outputs=3_500, mapped_bytes=11_000_000)
SHAPE = Shape(
    model=MODEL,
    batch=8,
    token_buckets=(128, 64, 32),
    lowest_block=0,
    living_parameters=300_000,
    trained_parameters=(50_000,) * 6,
    head_parameters=3_000,
)
WORK = Work(
    model=Model(blocks=6, d_model=100, block_parameters=2000, block_outputs=700, mapped_bytes=7),
    micro_batch=2,
    kept_blocks=0,
    tokens=10,
    batch=8,
    lowest_block=4,
    living_parameters=1000,
    trained_parameters=500,
    head_parameters=10,
)
KEPT = dataclasses.replace(WORK, kept_blocks=1)


def _device(budget_bytes: int, cost: CostTable = COST) -> Capability:
    return Capability(budget_bytes=budget_bytes, total_memory_bytes=2**30, link_bytes_per_s=10**6, cost=cost)


def test_the_peak_is_the_sum_that_the_docstring_names() -> None:
    inside = 30_000 * 20 + 50 * 200
    states = 4 * 8 * 10 * 100 * (2 + 2 + 1)
    rest = 30_000_000 + 60_000_000 + inside + states + 8 * 1010 + 24 * 510 + 7
    assert peak_bytes(COST, WORK) == rest + 4 * (20 * 700 + 2000)
    assert peak_bytes(COST, KEPT) == rest + 4 * (20 * 700 + 80 * 700 + 2 * 2000)
    both = dataclasses.replace(WORK, kept_blocks=2)
    assert peak_bytes(COST, both) == rest + 4 * (2 * 80 * 700 + 3 * 2000), "nothing is computed again"


def test_threads_have_micro_batches_of_their_own_up_to_the_batch() -> None:
    for threads, at_once in ((2, 4), (4, 8), (8, 8)):
        several = msgspec.structs.replace(COST, threads=threads)
        assert peak_bytes(several, WORK) - peak_bytes(COST, WORK) == (at_once - 2) * 10 * (30_000 + 50 * 10 + 4 * 700)


def test_products_of_integers_need_no_effective_weights() -> None:
    mapped = msgspec.structs.replace(COST, expands=False)
    assert peak_bytes(COST, KEPT) - peak_bytes(mapped, KEPT) == 4 * 2 * 2000


def test_a_step_is_forward_everywhere_and_backward_where_trained() -> None:
    forward, backward = 60 + 20 * 10 + 0.01 * 100, 120 + 50 * 10 + 0.03 * 100
    assert step_s(COST, WORK) == pytest.approx((8 * (8 * forward + 2 * backward) + 8 * 3000) / 1e6)
    assert step_s(COST, WORK) - step_s(COST, KEPT) == pytest.approx((8 * forward + 3000) / 1e6)


def test_a_thread_takes_whole_micro_batches() -> None:
    assert [in_turn(16, size, 4) for size in (1, 2, 4, 8)] == [4, 4, 4, 8]
    assert [in_turn(5, size, 1) for size in (1, 4, 8)] == [5, 5, 5]


def test_a_micro_batch_that_was_not_measured_is_not_guessed() -> None:
    with pytest.raises(EngineError, match="1, 2, 4, 8, not of 3"):
        step_s(COST, dataclasses.replace(WORK, micro_batch=3))


@given(
    st.sampled_from(["tokens", "batch", "living_parameters", "trained_parameters", "head_parameters"]),
    st.integers(1, 1000),
)
def test_more_of_anything_never_costs_less(field: str, more: int) -> None:
    larger = dataclasses.replace(WORK, **{field: getattr(WORK, field) + more})
    assert peak_bytes(COST, larger) >= peak_bytes(COST, WORK)
    assert step_s(COST, larger) >= step_s(COST, WORK)
    assert peak_bytes(COST, dataclasses.replace(WORK, lowest_block=3)) > peak_bytes(COST, WORK)


def test_keeping_a_block_costs_memory_and_saves_time() -> None:
    ways = [dataclasses.replace(WORK, kept_blocks=kept) for kept in range(WORK.depth + 1)]
    for less, more in itertools.pairwise(ways):
        assert peak_bytes(COST, more) > peak_bytes(COST, less)
        assert step_s(COST, more) < step_s(COST, less)


def test_a_large_budget_gets_everything() -> None:
    chosen = plan(_device(10**9), SHAPE)
    assert (chosen.micro_batch, chosen.kept_blocks, chosen.tokens, chosen.lowest_block) == (8, 6, 128, 0)


@pytest.mark.parametrize("budget_bytes", range(150_000_000, 300_000_000, 10_000_000))
def test_blocks_are_kept_only_where_file_pages_have_room_too(budget_bytes: int) -> None:
    chosen = plan(_device(budget_bytes), SHAPE)
    without = plan(_device(budget_bytes, msgspec.structs.replace(COST, file_bytes=0)), SHAPE)
    assert not chosen.kept_blocks or chosen.predicted_bytes + COST.file_bytes <= usable_bytes(budget_bytes)
    assert (chosen.tokens, chosen.lowest_block) == (without.tokens, without.lowest_block)
    assert chosen.kept_blocks <= without.kept_blocks


def test_the_fastest_micro_batch_is_taken_and_not_the_largest() -> None:
    slow = msgspec.structs.replace(COST.speeds[-1], forward_us=(1000.0, 20.0, 0.01))
    chosen = plan(_device(10**9, msgspec.structs.replace(COST, speeds=(*COST.speeds[:-1], slow))), SHAPE)
    assert chosen.micro_batch == 4


def test_as_the_budget_shrinks_time_goes_first_then_depth_then_tokens() -> None:
    plans = []
    for budget in range(260_000_000, 104_000_000, -200_000):
        try:
            chosen = plan(_device(budget), SHAPE)
        except BudgetError:
            break
        assert chosen.predicted_bytes <= budget
        plans.append((chosen.tokens, -chosen.lowest_block, -chosen.predicted_step_s))
    assert plans == sorted(plans, reverse=True)
    assert len(set(plans)) > 12


@settings(deadline=None)
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
    assert plan(_device(10**9), dataclasses.replace(SHAPE, batch=5)).micro_batch == 4


def test_the_costs_of_a_model_are_in_its_manifest() -> None:
    manifest = load_manifest(tiny_pack())
    model = model_of(manifest)
    assert (model.blocks, model.d_model) == (manifest.blocks, manifest.d_model)
    widths = [module.d_out for module in manifest.modules if module.block == manifest.blocks - 1]
    assert model.block_outputs == sum(widths)
    matrices = sum(module.d_in * module.d_out for module in manifest.modules if module.block == 0)
    assert matrices < model.block_parameters < 1.2 * matrices


def test_planning_imports_no_numpy_because_the_supervisor_stays_resident() -> None:
    code = "import sys, edge_agent.wire.cost; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
