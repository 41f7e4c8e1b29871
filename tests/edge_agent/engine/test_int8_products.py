"""Products of integers are near those of float32, and obey the same laws otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch, Gradients
from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows
from tests.models import BLOCKS, tiny_pack

SLOTS, CLASSES, SCALE = 4, 5, 0.7


@pytest.fixture(scope="module")
def layout() -> Layout:
    return module_layout(load_manifest(tiny_pack()), SLOTS, CLASSES)


def make_engine(layout: Layout, products: str, threads: int = 1) -> BlockwiseEngine:
    return BlockwiseEngine(tiny_pack(), layout, threads=threads, scale=SCALE, products=products)


def make_rows(layout: Layout) -> Rows:
    generator = np.random.default_rng(1)
    counts = {name: CLASSES if name == HEAD else index % 4 for index, name in enumerate(layout.tables)}
    return {
        name: 0.2 * generator.standard_normal((counts[name], table.width), dtype=np.float32)
        for name, table in layout.tables.items()
    }


def make_batch() -> Batch:
    generator = np.random.default_rng(2)
    mask = (np.arange(9)[None, :] < np.array([9, 3, 7, 9])[:, None]).astype(np.int32)
    labels = generator.integers(0, CLASSES, 4, dtype=np.int32)
    return Batch(generator.integers(4, 64, mask.shape, dtype=np.int32) * mask, mask, labels)


def cosine(a: Gradients, b: Gradients) -> float:
    one, other = (np.concatenate([rows.ravel() for rows in g.rows.values()]) for g in (a, b))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("lowest_block", range(BLOCKS + 1))
def test_gradients_are_near_those_of_float32(layout: Layout, lowest_block: int) -> None:
    rows, batch = make_rows(layout), make_batch()
    exact, near = (
        make_engine(layout, products).step(batch, rows, lowest_block=lowest_block, micro_batch=1)
        for products in ("float32", "int8")
    )
    assert near.rows.keys() == exact.rows.keys()
    assert near.loss == pytest.approx(exact.loss, rel=0.02)
    assert cosine(near, exact) > 0.99


@pytest.mark.parametrize("kept_blocks", range(1, BLOCKS + 1))
def test_what_is_kept_does_not_change_the_result(layout: Layout, kept_blocks: int) -> None:
    rows, batch, engine = make_rows(layout), make_batch(), make_engine(layout, "int8", threads=2)
    again = engine.step(batch, rows, lowest_block=0, micro_batch=1)
    kept = engine.step(batch, rows, lowest_block=0, micro_batch=1, kept_blocks=kept_blocks)
    assert kept.loss == again.loss
    assert all(np.array_equal(kept.rows[name], again.rows[name]) for name in rows)


def test_they_need_weights_of_integers(layout: Layout) -> None:
    with pytest.raises(EngineError, match="int8 weights"):
        BlockwiseEngine(tiny_pack("fp32"), layout, threads=1, scale=SCALE, products="int8")
