from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.engine import next_token
from edge_agent.engine.next_token import IGNORED, Vocabulary, next_tokens
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import load_manifest
from tests.models import D_MODEL, tiny_pack

WORDS = 64


def make_vocabulary(weights: str = "int8", family: str = "llama") -> tuple[Vocabulary, torch.Tensor]:
    pack_dir = tiny_pack(weights, family)
    manifest = load_manifest(pack_dir)
    mapped = WeightMap(pack_dir, manifest)
    return Vocabulary(manifest, mapped), torch.tensor(mapped.tensor("embedding.word"))


def make_states(count: int, scale: float = 1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(count)
    states = (generator.standard_normal((count, D_MODEL)) * scale).astype(np.float32)
    return states, generator.integers(0, WORDS, count).astype(np.int32)


def test_labels_are_the_tokens_that_follow() -> None:
    ids, mask = np.array([[5, 6, 7], [8, 9, 1]], np.int32), np.array([[1, 1, 1], [1, 1, 0]], np.int32)
    np.testing.assert_array_equal(next_tokens(ids, mask), [[6, 7, IGNORED], [9, IGNORED, IGNORED]])


@pytest.mark.parametrize("chunk_bytes", [1, 5_000, 2**23], ids=["a row each", "some chunks", "one chunk"])
@pytest.mark.parametrize("weights", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("count", [1, 11])
def test_loss_and_gradient_equal_torchs(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, weights: str, count: int
) -> None:
    monkeypatch.setattr(next_token, "_CHUNK_BYTES", chunk_bytes)
    vocabulary, table = make_vocabulary(weights)
    states, labels = make_states(count)
    leaf = torch.tensor(states, requires_grad=True)
    logits = leaf @ table.T
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.long))
    loss.backward()
    got = vocabulary.loss(states, labels)
    assert got.value == pytest.approx(loss.item(), rel=1e-5)
    assert got.correct == (logits.argmax(1).numpy() == labels).sum()
    np.testing.assert_allclose(got.d_hidden, leaf.grad, atol=1e-6)


@pytest.mark.parametrize("chunk_bytes", [1, 2**23])
def test_large_logits_do_not_overflow(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    monkeypatch.setattr(next_token, "_CHUNK_BYTES", chunk_bytes)
    vocabulary, table = make_vocabulary()
    states, labels = make_states(5, scale=1e3)
    expected = torch.nn.functional.cross_entropy(torch.tensor(states) @ table.T, torch.tensor(labels, dtype=torch.long))
    got = vocabulary.loss(states, labels)
    assert got.value == pytest.approx(expected.item(), rel=1e-5)
    assert np.isfinite(got.d_hidden).all()


@pytest.mark.parametrize("chunk_bytes", [100, 10_000])
def test_no_chunk_is_larger_than_it_may_be(monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    monkeypatch.setattr(next_token, "_CHUNK_BYTES", chunk_bytes)
    vocabulary, table = make_vocabulary()
    chunks = list(vocabulary.chunks(7, D_MODEL))
    assert [start for start, _ in chunks] == list(np.cumsum([0, *(len(rows) for _, rows in chunks[:-1])]))
    assert all(len(rows) == 1 or 4 * len(rows) * (7 + D_MODEL) <= chunk_bytes for _, rows in chunks)
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in chunks]), table)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    vocabulary, _ = make_vocabulary()
    states, labels = make_states(3)
    states[1, 0] = bad
    with pytest.raises(EngineError, match="not finite"), np.errstate(invalid="ignore"):
        vocabulary.loss(states, labels)
