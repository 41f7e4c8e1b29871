from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from edge_agent.wire.pack import load_manifest
from profiling.bench.arithmetic import products_flops, step_flops
from profiling.bench.spec import Work
from tests.models import BLOCKS, tiny_pack

WORK = Work(batch=2, tokens=8, rank=4, threads=1, seed=0)


def test_products_are_those_that_torch_counts() -> None:
    shapes = ((32, 48), (48, 32))
    x = [torch.randn(16, d_in, requires_grad=True) for d_in, _ in shapes]
    with FlopCounterMode(display=False) as counter:
        sum((a @ torch.randn(shape)).sum() for a, shape in zip(x, shapes, strict=True)).backward()
    assert products_flops(shapes, WORK) == counter.get_total_flops()


def test_a_step_has_four_operations_a_weight_and_token_and_attention() -> None:
    manifest = load_manifest(tiny_pack())
    weights = sum(module.d_in * module.d_out for module in manifest.modules)
    full = step_flops(manifest, WORK, (4,) * len(manifest.modules))
    assert full == 4 * 16 * weights + BLOCKS * 12 * 2 * 8**2 * manifest.d_model


def test_blocks_below_the_lowest_rank_have_no_way_back() -> None:
    manifest = load_manifest(tiny_pack())
    lowest_pruned = tuple(4 * (module.block > 0) for module in manifest.modules)
    full = step_flops(manifest, WORK, (4,) * len(manifest.modules))
    head_alone = step_flops(manifest, WORK, (0,) * len(manifest.modules))
    assert full - step_flops(manifest, WORK, lowest_pruned) == (full - head_alone) / BLOCKS
