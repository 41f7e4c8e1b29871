from __future__ import annotations

from typing import Literal

import pytest

from edge_agent.wire.pack import load_manifest, module_layout
from profiling.bench.onnx_step import living, make_onnx_step
from profiling.bench.spec import CLASSES, OnnxSpec, Work
from tests.models import BLOCKS, tiny_pack

WORK = Work(batch=4, tokens=8, rank=2, threads=1, seed=0)
LAYOUT = module_layout(load_manifest(tiny_pack()), WORK.rank, CLASSES)
FULL = (WORK.rank,) * len(LAYOUT.modules)


@pytest.mark.parametrize("products", ["float32", "int8"])
@pytest.mark.parametrize("kept_blocks", [0, BLOCKS])
def test_steps_lower_the_loss_in_every_mode(kept_blocks: int, products: Literal["float32", "int8"]) -> None:
    step = make_onnx_step(OnnxSpec("x", WORK, str(tiny_pack()), products, 2, kept_blocks, FULL))
    losses = [step() for _ in range(4)]
    assert losses == sorted(losses, reverse=True)


def test_as_many_slots_live_as_ranks() -> None:
    ranks = tuple(index % 3 for index in range(len(FULL)))
    assert tuple(living(LAYOUT, ranks).sum(axis=1)) == ranks
