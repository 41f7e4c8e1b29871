"""Every family of models computes, and learns, what transformers' own model does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.engine.next_token import next_tokens
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch, Gradients
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows
from tests.edge_agent.engine.oracle import torch_gradients
from tests.models import BLOCKS, FAMILIES, SPECIAL, tiny_pack, tiny_source

SLOTS, CLASSES, SCALE = 4, 5, 0.7
DECODERS = ("llama", "gpt2")
LENGTHS = (9, 3, 1, 7)


def make_engine(family: str, classes: int, weights: str = "int8") -> tuple[BlockwiseEngine, Layout]:
    pack_dir = tiny_pack(weights, family, sentence=False)
    layout = module_layout(load_manifest(pack_dir), SLOTS, classes)
    return BlockwiseEngine(pack_dir, layout, threads=1, scale=SCALE), layout


def make_rows(layout: Layout, *, pruned_block: int | None = None) -> Rows:
    """Zero to three ranks a module; none in the pruned block."""
    generator = np.random.default_rng(1)
    rows = {HEAD: generator.standard_normal((layout.classes, layout.d_model + 1)) * 0.2}
    for index, module in enumerate(layout.modules):
        count = 0 if module.block == pruned_block else index % SLOTS
        rows[module.name] = generator.standard_normal((count, module.width)) * 0.2
    return {name: table.astype(np.float32) for name, table in rows.items()}


def make_batch(lengths: Sequence[int] = LENGTHS) -> Batch:
    generator = np.random.default_rng(2)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1])[None, :] < np.array(lengths)[:, None]).astype(np.int32)
    # Padding is a token of its own that no text has: RoBERTa and MPNet, which pad with 1, tell positions by it.
    ids = np.where(mask, generator.integers(len(SPECIAL), 64, shape), 1).astype(np.int32)
    return Batch(ids, mask, generator.integers(0, CLASSES, len(lengths)).astype(np.int32))


def next_token_batch() -> Batch:
    batch = make_batch()
    return Batch(batch.input_ids, batch.attention_mask, next_tokens(batch.input_ids, batch.attention_mask))


def assert_equal_gradients(got: Gradients, expected: Gradients, relative: float = 1e-5) -> None:
    """Every number to `relative` of the largest in its module's gradient, and to the resolution of float32."""
    assert got.loss == pytest.approx(expected.loss, rel=relative)
    assert got.correct == expected.correct
    assert got.rows.keys() == expected.rows.keys()
    largest = max(np.abs(table).max(initial=0) for table in expected.rows.values())
    for name, theirs in expected.rows.items():
        tolerance = relative * np.abs(theirs).max(initial=0) + np.finfo(np.float32).eps * largest
        np.testing.assert_allclose(got.rows[name], theirs, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("pruned_block", [None, 0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_for_classes_equal_autograd(family: str, pruned_block: int | None) -> None:
    engine, layout = make_engine(family, CLASSES)
    rows, batch, pack_dir = (
        make_rows(layout, pruned_block=pruned_block),
        make_batch(),
        tiny_pack("int8", family, sentence=False),
    )
    expected = torch_gradients(pack_dir, tiny_source(pack_dir), batch, rows, SCALE)
    assert_equal_gradients(engine.step(batch, rows, lowest_block=0, micro_batch=4), expected)


@pytest.mark.parametrize("weights", ["int8", "fp32"])
@pytest.mark.parametrize("family", DECODERS)
def test_gradients_for_next_tokens_equal_autograd(family: str, weights: str) -> None:
    engine, layout = make_engine(family, 0, weights)
    rows, batch, pack_dir = make_rows(layout), next_token_batch(), tiny_pack(weights, family, sentence=False)
    expected = torch_gradients(pack_dir, tiny_source(pack_dir), batch, rows, SCALE)
    assert_equal_gradients(engine.step(batch, rows, lowest_block=0, micro_batch=2), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_and_the_micro_batch_do_not_change_the_result(family: str) -> None:
    engine, layout = make_engine(family, CLASSES)
    rows, batch = make_rows(layout), make_batch()
    whole = engine.step(batch, rows, lowest_block=0, micro_batch=4)
    for kept_blocks in range(BLOCKS + 1):
        got = engine.step(batch, rows, lowest_block=0, micro_batch=1 + kept_blocks, kept_blocks=kept_blocks)
        assert_equal_gradients(got, whole)
    logits = engine.logits(batch, rows, micro_batch=1)
    np.testing.assert_allclose(logits, engine.logits(batch, rows, micro_batch=4), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_products_of_integers_point_the_same_way(family: str) -> None:
    engine, layout = make_engine(family, CLASSES)
    rows, batch = make_rows(layout), make_batch()
    exact = engine.step(batch, rows, lowest_block=0, micro_batch=4)
    pack_dir = tiny_pack("int8", family, sentence=False)
    rounded = BlockwiseEngine(pack_dir, layout, threads=1, scale=SCALE, products="int8")
    got = rounded.step(batch, rows, lowest_block=0, micro_batch=4)
    a, b = (np.concatenate([g.rows[name].ravel() for name in rows]) for g in (got, exact))
    assert a @ b > 0.99 * np.linalg.norm(a) * np.linalg.norm(b)


@pytest.mark.parametrize("family", DECODERS)
def test_a_token_does_not_see_those_behind_it(family: str) -> None:
    engine, layout = make_engine(family, CLASSES)
    rows, whole = make_rows(layout), make_batch((9, 9))
    mask = whole.attention_mask * (np.arange(9) < 4).astype(np.int32)
    cut = Batch(whole.input_ids[:, :4], mask[:, :4])
    got = engine.logits(Batch(whole.input_ids, mask), rows, micro_batch=2)
    np.testing.assert_allclose(got, engine.logits(cut, rows, micro_batch=2), atol=1e-5)
