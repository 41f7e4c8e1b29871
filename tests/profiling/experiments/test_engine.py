"""Frozen weights that a method may move: added to, and back."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.engine.torch_engine import TorchEngine
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows
from profiling.experiments.drift import products
from profiling.experiments.engine import ExperimentEngine
from profiling.experiments.method import Float32
from tests.edge_agent.engine.test_families import CLASSES, SCALE, SLOTS, make_batch
from tests.models import tiny_pack

FAMILY = "bert"


@pytest.fixture(scope="module")
def layout() -> Layout:
    return module_layout(load_manifest(tiny_pack("int8", FAMILY, sentence=False)), SLOTS, CLASSES)


@pytest.fixture
def engine(layout: Layout) -> ExperimentEngine:
    return ExperimentEngine(tiny_pack("int8", FAMILY, sentence=False), layout, scale=SCALE)


@pytest.fixture(scope="module")
def full(layout: Layout) -> Rows:
    """Every rank lives and adds something; compact and full tables are the same."""
    draws = np.random.default_rng(5)
    shapes = {name: (table.rows, table.width) for name, table in layout.tables.items()}
    return {name: (draws.standard_normal(shape) * 0.3).astype(np.float32) for name, shape in shapes.items()}


def without_ranks(layout: Layout, rows: Rows) -> Rows:
    return {**{module.name: rows[module.name][:0] for module in layout.modules}, HEAD: rows[HEAD]}


def folded(layout: Layout, rows: Rows) -> dict[str, Float32]:
    return {name: np.float32(SCALE) * product for name, product in products(layout, rows).items()}


def logits(engine: TorchEngine, rows: Rows) -> Float32:
    return engine.logits(make_batch(), rows, micro_batch=2)


def test_what_ranks_add_can_be_added_to_the_frozen_weights(
    engine: ExperimentEngine, layout: Layout, full: Rows
) -> None:
    by_ranks, bare = logits(engine, full), logits(engine, without_ranks(layout, full))
    engine.set_base(folded(layout, full))
    in_weights = logits(engine, without_ranks(layout, full))
    np.testing.assert_allclose(in_weights, by_ranks, atol=1e-4)
    assert np.abs(by_ranks - bare).max() > 0.01, "the ranks did something"


def test_without_a_base_the_weights_are_those_of_the_pack_again(
    engine: ExperimentEngine, layout: Layout, full: Rows
) -> None:
    before = logits(engine, full)
    engine.set_base(folded(layout, full))
    engine.set_base({})
    assert np.array_equal(logits(engine, full), before)


def test_a_base_takes_the_place_of_the_one_before(engine: ExperimentEngine, layout: Layout, full: Rows) -> None:
    base = folded(layout, full)
    some = dict(list(base.items())[:3])
    engine.set_base(some)
    alone = logits(engine, full)
    engine.set_base(base)
    engine.set_base(some)
    assert np.array_equal(logits(engine, full), alone)


def test_pretrained_weights_stay_what_they_are(engine: ExperimentEngine, layout: Layout, full: Rows) -> None:
    before = {module.name: engine.pretrained(module.name) for module in layout.modules}
    engine.set_base(folded(layout, full))
    for module in layout.modules:
        assert np.array_equal(engine.pretrained(module.name), before[module.name])


def test_pretrained_weights_are_those_of_the_pack(engine: ExperimentEngine, layout: Layout) -> None:
    pack_dir = tiny_pack("int8", FAMILY, sentence=False)
    manifest = load_manifest(pack_dir)
    weights = WeightMap(pack_dir, manifest)
    for module, entry in zip(layout.modules, manifest.modules, strict=True):
        stored = weights.tensor(f"block.{entry.block}.{entry.local}.weight")
        assert engine.pretrained(module.name).shape == (module.d_out, module.d_in)
        assert np.array_equal(engine.pretrained(module.name), stored.T)


def test_what_was_handed_out_can_be_written_to(engine: ExperimentEngine, layout: Layout, full: Rows) -> None:
    before = logits(engine, full)
    engine.pretrained(layout.modules[0].name)[:] = 0
    assert np.array_equal(logits(engine, full), before)
