from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import transformers

from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch, Gradients
from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import MANIFEST, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows
from tests.edge_agent.engine.oracle import torch_gradients
from tests.models import BLOCKS, tiny_pack, tiny_source

SLOTS, CLASSES, SCALE = 4, 5, 0.7
RANKS: dict[str, Callable[[int], int]] = {
    "none": lambda module: 0,
    "one": lambda module: 1,
    "three": lambda module: 3,
    "mixed": lambda module: module % 4,
    "block 1 pruned": lambda module: 0 if 6 <= module < 12 else 2,
}


@pytest.fixture(scope="module")
def layout() -> Layout:
    return module_layout(load_manifest(tiny_pack()), SLOTS, CLASSES)


@pytest.fixture(scope="module")
def engine(layout: Layout) -> BlockwiseEngine:
    return BlockwiseEngine(tiny_pack(), layout, threads=1, scale=SCALE)


def make_rows(layout: Layout, ranks: Callable[[int], int]) -> Rows:
    generator = np.random.default_rng(1)
    counts = {module.name: ranks(index) for index, module in enumerate(layout.modules)} | {HEAD: layout.classes}
    shapes = {name: (counts[name], table.width) for name, table in layout.tables.items()}
    return {name: (generator.standard_normal(s) * 0.2).astype(np.float32) for name, s in shapes.items()}


def make_batch(lengths: Sequence[int]) -> Batch:
    """One example of each length, padded to the longest."""
    generator = np.random.default_rng(2)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1])[None, :] < np.array(lengths)[:, None]).astype(np.int32)
    ids = generator.integers(4, 64, shape, dtype=np.int32) * mask
    return Batch(ids, mask, generator.integers(0, CLASSES, len(lengths)).astype(np.int32))


def assert_equal_gradients(got: Gradients, expected: Gradients, names: Sequence[str]) -> None:
    """Every number to 1e-5 of the largest in its module's gradient, and to the resolution of float32.

    Not to 1e-5 of itself: a gradient is a sum over all tokens, whose terms may cancel.
    """
    assert got.loss == pytest.approx(expected.loss, rel=1e-5)
    assert got.correct == expected.correct
    assert set(got.rows) == set(names)
    largest = max(np.abs(expected.rows[name]).max(initial=0) for name in names)
    for name in names:
        mine, theirs = got.rows[name], expected.rows[name]
        assert mine.shape == theirs.shape
        tolerance = 1e-5 * np.abs(theirs).max(initial=0) + np.finfo(np.float32).eps * largest
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("ranks", RANKS.values(), ids=RANKS.keys())
@pytest.mark.parametrize("lengths", [(1,), (5, 5), (9, 3, 1, 7), (2,) * 7, (40, 64)], ids=str)
def test_gradients_equal_autograd(
    engine: BlockwiseEngine, layout: Layout, ranks: Callable[[int], int], lengths: tuple[int, ...]
) -> None:
    rows, batch = make_rows(layout, ranks), make_batch(lengths)
    expected = torch_gradients(tiny_pack(), tiny_source(tiny_pack()), batch, rows, SCALE)
    got = engine.step(batch, rows, lowest_block=0, micro_batch=len(lengths))
    assert_equal_gradients(got, expected, list(rows))


@pytest.mark.parametrize("lowest_block", range(BLOCKS + 1))
def test_training_stops_at_the_lowest_block(engine: BlockwiseEngine, layout: Layout, lowest_block: int) -> None:
    rows, batch = make_rows(layout, RANKS["mixed"]), make_batch((9, 3, 7))
    expected = torch_gradients(tiny_pack(), tiny_source(tiny_pack()), batch, rows, SCALE)
    trained = [module.name for module in layout.modules if module.block >= lowest_block]
    got = engine.step(batch, rows, lowest_block=lowest_block, micro_batch=2)
    assert_equal_gradients(got, expected, [*trained, HEAD])


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 7, 100])
def test_micro_batch_does_not_change_the_result(engine: BlockwiseEngine, layout: Layout, micro_batch: int) -> None:
    rows, batch = make_rows(layout, RANKS["mixed"]), make_batch((9, 3, 1, 7, 4, 9, 2))
    whole = engine.step(batch, rows, lowest_block=0, micro_batch=7)
    assert_equal_gradients(engine.step(batch, rows, lowest_block=0, micro_batch=micro_batch), whole, list(rows))
    logits = engine.logits(batch, rows, micro_batch=micro_batch)
    np.testing.assert_allclose(logits, engine.logits(batch, rows, micro_batch=7), atol=1e-5)


def test_padding_does_not_change_the_result(engine: BlockwiseEngine, layout: Layout) -> None:
    rows, batch = make_rows(layout, RANKS["mixed"]), make_batch((6, 6))
    wide = np.pad(batch.input_ids, ((0, 0), (0, 5)), constant_values=9)
    padded = Batch(wide, np.pad(batch.attention_mask, ((0, 0), (0, 5))), batch.labels)
    expected = engine.step(batch, rows, lowest_block=0, micro_batch=2)
    assert_equal_gradients(engine.step(padded, rows, lowest_block=0, micro_batch=2), expected, list(rows))


def test_steps_leave_nothing_behind(engine: BlockwiseEngine, layout: Layout) -> None:
    rows, batch = make_rows(layout, RANKS["three"]), make_batch((9, 3))
    first = engine.step(batch, rows, lowest_block=0, micro_batch=1)
    engine.step(make_batch((4, 4, 4)), make_rows(layout, RANKS["one"]), lowest_block=1, micro_batch=2)
    again = engine.step(batch, rows, lowest_block=0, micro_batch=1)
    assert first.loss == again.loss
    assert all(np.array_equal(first.rows[name], again.rows[name]) for name in rows)


def test_without_ranks_the_logits_are_the_models_own(layout: Layout) -> None:
    pack_dir = tiny_pack("fp32")
    rows, batch = make_rows(layout, RANKS["none"]), make_batch((9, 3, 7))
    model = transformers.AutoModel.from_pretrained(tiny_source(pack_dir)).eval()
    mask = torch.tensor(batch.attention_mask)
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor(batch.input_ids), attention_mask=mask).last_hidden_state
    pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
    expected = pooled.numpy() @ rows[HEAD][:, :-1].T + rows[HEAD][:, -1]
    engine = BlockwiseEngine(pack_dir, layout, threads=2, scale=SCALE)
    np.testing.assert_allclose(engine.logits(batch, rows, micro_batch=2), expected, atol=1e-5)


def test_ranks_whose_e_is_zero_change_no_logit(engine: BlockwiseEngine, layout: Layout) -> None:
    rows, batch = make_rows(layout, RANKS["three"]), make_batch((9, 3))
    for module in layout.modules:
        rows[module.name][:, module.d_in] = 0
    frozen = {**make_rows(layout, RANKS["none"]), HEAD: rows[HEAD]}
    got = engine.logits(batch, rows, micro_batch=2)
    np.testing.assert_allclose(got, engine.logits(batch, frozen, micro_batch=2), atol=1e-6)


def pooled_by(pooling: str, pack_dir: Path) -> Path:
    """`tiny_pack` with another pooling."""
    shutil.copytree(tiny_pack(), pack_dir)
    manifest = msgspec.structs.replace(load_manifest(pack_dir), pooling=pooling)
    (pack_dir / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return pack_dir


@pytest.mark.parametrize("pooling", ["mean", "cls", "pooler"])
def test_what_the_head_saw_stays_as_it_was_when_the_engine_goes_on(
    layout: Layout, tmp_path: Path, pooling: str
) -> None:
    engine = BlockwiseEngine(pooled_by(pooling, tmp_path / "pack"), layout, threads=1, scale=SCALE)
    rows, batch = make_rows(layout, RANKS["mixed"]), make_batch((9, 3))
    pooled = engine.pooled(batch, rows, micro_batch=2)
    before = pooled.copy()
    engine.pooled(Batch(batch.input_ids[::-1], batch.attention_mask[::-1]), rows, micro_batch=2)
    np.testing.assert_array_equal(pooled, before)


def test_gradients_through_the_models_own_pooler(layout: Layout, tmp_path: Path) -> None:
    pack_dir = pooled_by("pooler", tmp_path / "pack")
    rows, batch = make_rows(layout, RANKS["mixed"]), make_batch((9, 3, 7))
    expected = torch_gradients(pack_dir, tiny_source(tiny_pack()), batch, rows, SCALE)
    engine = BlockwiseEngine(pack_dir, layout, threads=1, scale=SCALE)
    got = engine.step(batch, rows, lowest_block=0, micro_batch=2)
    assert_equal_gradients(got, expected, list(rows))


def test_a_diverged_model_is_an_error(engine: BlockwiseEngine, layout: Layout) -> None:
    rows = make_rows(layout, RANKS["one"])
    rows[HEAD][0, 0] = np.inf
    with pytest.raises(EngineError, match="not finite"):
        engine.step(make_batch((3,)), rows, lowest_block=0, micro_batch=1)


def test_what_does_not_fit_is_refused(engine: BlockwiseEngine, layout: Layout) -> None:
    rows, batch = make_rows(layout, RANKS["one"]), make_batch((3,))
    unlabelled = Batch(batch.input_ids, batch.attention_mask)
    with pytest.raises(EngineError, match="labels"):
        engine.step(unlabelled, rows, lowest_block=0, micro_batch=1)
    with pytest.raises(EngineError, match="lowest_block"):
        engine.step(batch, rows, lowest_block=BLOCKS + 1, micro_batch=1)
    with pytest.raises(EngineError, match="micro-batch"):
        engine.logits(batch, rows, micro_batch=0)


def test_a_layout_of_another_model_is_refused(layout: Layout) -> None:
    other = Layout(layout.modules[:6], layout.slots, layout.classes, layout.d_model)
    with pytest.raises(EngineError, match="another pack"):
        BlockwiseEngine(tiny_pack(), other, threads=1, scale=SCALE)
