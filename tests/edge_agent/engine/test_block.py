from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.block import Blocks, Factors, merge
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from edge_agent.wire.ranks import Rows
from tests.models import BLOCKS, tiny_pack

SCALE = 0.7


def make_blocks(pack_dir: Path, products: str = "float32") -> Blocks:
    manifest = load_manifest(pack_dir)
    return Blocks(pack_dir, manifest, WeightMap(pack_dir, manifest), scale=SCALE, products=products)


@pytest.fixture
def blocks() -> Blocks:
    return make_blocks(tiny_pack())


def make_rows(ranks: int) -> Rows:
    generator = np.random.default_rng(1)
    modules = load_manifest(tiny_pack()).modules
    return {m.name: generator.standard_normal((ranks, m.d_in + 1 + m.d_out), dtype=np.float32) for m in modules}


@given(d_in=st.integers(1, 300), d_out=st.integers(1, 300), ranks=st.integers(0, 5), seed=st.integers(0, 2**32 - 1))
def test_merging_adds_the_product_of_the_factors(d_in: int, d_out: int, ranks: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    factors = Factors(
        *(generator.standard_normal(s, dtype=np.float32) for s in ((ranks, d_in), (ranks,), (ranks, d_out)))
    )
    weight = generator.standard_normal((d_in, d_out), dtype=np.float32)
    expected = weight + factors.A.T @ np.diag(factors.E) @ factors.B
    merge(weight, factors)
    np.testing.assert_allclose(weight, expected, atol=1e-4)


def test_factors_are_the_rows_with_the_scale_in_e(blocks: Blocks) -> None:
    rows = make_rows(3)
    for module in blocks.modules(1):
        factors, table = blocks.factors(1, rows)[module.local], rows[module.name]
        np.testing.assert_array_equal(factors.A, table[:, : module.d_in])
        np.testing.assert_allclose(factors.E, table[:, module.d_in] * SCALE, rtol=1e-6)
        np.testing.assert_array_equal(factors.B, table[:, module.d_in + 1 :])


def test_without_ranks_the_effective_weights_are_the_frozen_ones(blocks: Blocks) -> None:
    frozen = WeightMap(tiny_pack(), load_manifest(tiny_pack()))
    for block in range(BLOCKS):
        weights = blocks.weights(block, blocks.factors(block, make_rows(0)), slot=0)
        for name in load_manifest(tiny_pack()).block_weights:
            np.testing.assert_array_equal(weights[name], frozen.tensor(f"block.{block}.{name}"))


def test_blocks_share_the_memory_of_a_slot(blocks: Blocks) -> None:
    factors = blocks.factors(0, make_rows(1))
    first = blocks.weights(0, factors, slot=0)
    other, same = blocks.weights(1, factors, slot=1), blocks.weights(2, factors, slot=0)
    names = load_manifest(tiny_pack()).block_weights
    assert all(np.shares_memory(first[name], same[name]) for name in names)
    assert not any(np.shares_memory(first[name], other[name]) for name in names)


def test_nothing_is_expanded_for_products_of_integers() -> None:
    blocks, manifest = make_blocks(tiny_pack(), "int8"), load_manifest(tiny_pack())
    weights = blocks.weights(0, blocks.factors(0, make_rows(1)), slot=0)
    for module in blocks.modules(0):
        assert weights[f"{module.local}.weight"].dtype == np.int8
        assert weights[f"{module.local}.weight.scale"].shape == (module.d_out,)
    stored = {name for name in weights if not name.startswith(("A.", "E.", "B."))}
    assert stored == {name.removeprefix("block.0.") for name in manifest.tensors if name.startswith("block.0.")}
