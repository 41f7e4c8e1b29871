"""The torch engine computes what the block-wise engine does, for every family of models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from edge_agent import memory
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch
from edge_agent.engine.torch_engine import TorchEngine
from edge_agent.wire.errors import ConfigError, EngineError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows
from tests.edge_agent.engine.test_families import (
    CLASSES,
    DECODERS,
    SCALE,
    SLOTS,
    assert_equal_gradients,
    make_batch,
    make_rows,
    next_token_batch,
)
from tests.models import BLOCKS, FAMILIES, tiny_pack

Device = Literal["cpu", "cuda"]
TWO_ROUNDINGS = 2e-5
"""Both engines compute in float32: each lies within 1e-5 of the exact gradient."""


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> Device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("NOT TESTED on CUDA: torch finds no CUDA device here")
    return request.param


def make_engines(family: str, classes: int, device: Device) -> tuple[TorchEngine, BlockwiseEngine, Layout]:
    pack_dir = tiny_pack("int8", family, sentence=False)
    layout = module_layout(load_manifest(pack_dir), SLOTS, classes)
    mine = TorchEngine(pack_dir, layout, threads=1, scale=SCALE, device=device)
    return mine, BlockwiseEngine(pack_dir, layout, threads=1, scale=SCALE), layout


def assert_equal_steps(
    engines: tuple[TorchEngine, BlockwiseEngine], batch: Batch, rows: Rows, lowest_block: int
) -> None:
    mine, theirs = (
        engine.step(batch, rows, lowest_block=lowest_block, micro_batch=3, kept_blocks=1) for engine in engines
    )
    assert_equal_gradients(mine, theirs, TWO_ROUNDINGS)


@pytest.mark.parametrize("pruned_block", [None, 0])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_for_classes_are_the_same(family: str, pruned_block: int | None, device: Device) -> None:
    *engines, layout = make_engines(family, CLASSES, device)
    rows = make_rows(layout, pruned_block=pruned_block)
    assert_equal_steps((engines[0], engines[1]), make_batch(), rows, 0)


@pytest.mark.parametrize("family", DECODERS)
def test_gradients_for_next_tokens_are_the_same(family: str, device: Device) -> None:
    *engines, layout = make_engines(family, 0, device)
    assert_equal_steps((engines[0], engines[1]), next_token_batch(), make_rows(layout), 0)


@pytest.mark.parametrize("lowest_block", range(BLOCKS + 1))
def test_training_stops_at_the_lowest_block(lowest_block: int, device: Device) -> None:
    *engines, layout = make_engines("bert", CLASSES, device)
    assert_equal_steps((engines[0], engines[1]), make_batch(), make_rows(layout), lowest_block)


@pytest.mark.parametrize("kept_blocks", range(BLOCKS + 1))
@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_what_is_kept_and_computed_together_changes_no_result(
    kept_blocks: int, micro_batch: int, device: Device
) -> None:
    engine, _, layout = make_engines("bert", CLASSES, device)
    rows, batch = make_rows(layout), make_batch()
    whole = engine.step(batch, rows, lowest_block=0, micro_batch=4)
    got = engine.step(batch, rows, lowest_block=0, micro_batch=micro_batch, kept_blocks=kept_blocks)
    assert_equal_gradients(got, whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_the_head_sees_is_the_same(family: str, device: Device) -> None:
    mine, theirs, layout = make_engines(family, CLASSES, device)
    rows, batch = make_rows(layout), make_batch()
    expected = theirs.pooled(batch, rows, micro_batch=2)
    assert expected.shape == (len(batch.input_ids), layout.d_model)
    np.testing.assert_allclose(mine.pooled(batch, rows, micro_batch=3), expected, atol=1e-5)
    for engine in (mine, theirs):
        logits = engine.logits(batch, rows, micro_batch=1)
        np.testing.assert_allclose(expected @ rows[HEAD][:, :-1].T + rows[HEAD][:, -1], logits, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_same(family: str, device: Device) -> None:
    mine, theirs, layout = make_engines(family, CLASSES, device)
    rows, batch = make_rows(layout), make_batch()
    expected = theirs.logits(batch, rows, micro_batch=2)
    np.testing.assert_allclose(mine.logits(batch, rows, micro_batch=3), expected, atol=1e-5)


def test_the_rows_given_stay_as_they_are(device: Device) -> None:
    engine, _, layout = make_engines("bert", CLASSES, device)
    rows = make_rows(layout)
    before = {name: table.copy() for name, table in rows.items()}
    engine.step(make_batch(), rows, lowest_block=0, micro_batch=2)
    engine.give_back()
    assert all(np.array_equal(rows[name], before[name]) for name in rows)


def test_what_does_not_fit_is_refused() -> None:
    engine, _, layout = make_engines("bert", CLASSES, "cpu")
    rows, batch = make_rows(layout), make_batch()
    with pytest.raises(EngineError, match="labels"):
        engine.step(Batch(batch.input_ids, batch.attention_mask), rows, lowest_block=0, micro_batch=1)
    with pytest.raises(EngineError, match="lowest_block"):
        engine.step(batch, rows, lowest_block=BLOCKS + 1, micro_batch=1)
    with pytest.raises(EngineError, match="micro-batch"):
        engine.logits(batch, rows, micro_batch=0)
    other = Layout(layout.modules[:6], layout.slots, layout.classes, layout.d_model)
    with pytest.raises(EngineError, match="another pack"):
        TorchEngine(tiny_pack(), other, threads=1, scale=SCALE, device="cpu")


def test_cuda_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r'expected a CUDA device.*torch_device = "cpu"'):
        TorchEngine(Path("nowhere"), Layout((), 1, 1, 1), threads=1, scale=SCALE, device="cuda")


def test_memory_that_is_refused_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _, layout = make_engines("bert", CLASSES, "cpu")

    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(mine._graph, "run", refuse)
    with pytest.raises(EngineError, match=r"CUDA refuses memory .*raise memory\.budget_bytes"):
        mine.step(make_batch(), make_rows(layout), lowest_block=0, micro_batch=2)


def test_on_the_cpu_nothing_is_shared_and_nothing_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BESIDE", [])
    pack_dir = tiny_pack("int8", "bert", sentence=False)
    layout = module_layout(load_manifest(pack_dir), SLOTS, CLASSES)
    limited = TorchEngine(pack_dir, layout, threads=1, scale=SCALE, device="cpu", shared_limit_bytes=1)
    mine, _, _ = make_engines("bert", CLASSES, "cpu")
    rows, batch = make_rows(layout), make_batch()
    assert memory._BESIDE == []
    assert (limited.logits(batch, rows, micro_batch=2) == mine.logits(batch, rows, micro_batch=2)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NOT TESTED on CUDA: torch finds no CUDA device here")
def test_what_cuda_holds_of_shared_memory_counts_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BESIDE", [])
    pack_dir = tiny_pack("int8", "bert", sentence=False)
    layout = module_layout(load_manifest(pack_dir), SLOTS, CLASSES)
    limit_bytes = memory.own().anonymous_bytes + 64 * 2**20
    before = memory.own().anonymous_bytes
    engine = TorchEngine(pack_dir, layout, threads=1, scale=SCALE, device="cuda", shared_limit_bytes=limit_bytes)
    assert engine.frozen and memory.own().anonymous_bytes >= before + torch.cuda.memory_reserved() > before
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(2**28, device="cuda")
