from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_agent.engine.next_token import IGNORED, next_tokens
from edge_agent.engine.norm import final_norm
from edge_agent.engine.objective import Objective
from edge_agent.engine.protocol import Batch
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from tests.models import D_MODEL, tiny_pack

CLASSES = 3
GENERATOR = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], np.int32)
IDS = GENERATOR.integers(4, 64, MASK.shape).astype(np.int32)
HIDDEN = GENERATOR.standard_normal((*MASK.shape, D_MODEL)).astype(np.float32)
HEAD = GENERATOR.standard_normal((CLASSES, D_MODEL + 1)).astype(np.float32)
BATCH = Batch(IDS, MASK)


def opened(family: str) -> tuple[Objective, WeightMap, Path]:
    pack_dir = tiny_pack("int8", family, sentence=False)
    weights = WeightMap(pack_dir, load_manifest(pack_dir))
    return Objective(load_manifest(pack_dir), weights), weights, pack_dir


def torch_norm(family: str, weights: WeightMap, pack_dir: Path, hidden: Tensor) -> Tensor:
    eps, gain = load_manifest(pack_dir).norm_eps, torch.tensor(weights.tensor("final.norm.weight"))
    if family == "llama":
        return functional.rms_norm(hidden, (D_MODEL,), gain, eps)
    return functional.layer_norm(hidden, (D_MODEL,), gain, torch.tensor(weights.tensor("final.norm.bias")), eps)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_decoders_class_is_told_from_its_last_normed_state(family: str) -> None:
    objective, weights, pack_dir = opened(family)
    hidden, head = torch.tensor(HIDDEN, requires_grad=True), torch.tensor(HEAD, requires_grad=True)
    last = torch_norm(family, weights, pack_dir, hidden)[[0, 1], [3, 1]]
    logits = last @ head[:, :-1].T + head[:, -1]
    labels = np.array([2, 0], np.int32)
    loss = functional.cross_entropy(logits, torch.tensor(labels, dtype=torch.long))
    loss.backward()
    got = objective.loss(HIDDEN, BATCH, labels, HEAD)
    np.testing.assert_allclose(objective.pooled(HIDDEN, BATCH), last.detach(), atol=1e-5)
    assert got.value == pytest.approx(loss.item(), rel=1e-5)
    assert got.correct == (logits.argmax(1).numpy() == labels).sum()
    np.testing.assert_allclose(got.d_head, head.grad, atol=1e-5)
    np.testing.assert_allclose(got.d_hidden, hidden.grad, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_next_tokens_are_told_from_every_normed_state(family: str) -> None:
    objective, weights, pack_dir = opened(family)
    labels = next_tokens(IDS, MASK)
    hidden = torch.tensor(HIDDEN, requires_grad=True)
    logits = torch_norm(family, weights, pack_dir, hidden) @ torch.tensor(weights.tensor("embedding.word")).T
    targets = torch.tensor(labels, dtype=torch.long)
    loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    loss.backward()
    got = objective.loss(HIDDEN, BATCH, labels, HEAD)
    assert got.value == pytest.approx(loss.item(), rel=1e-5)
    assert got.correct == (logits.argmax(-1).numpy() == labels).sum()
    assert not got.d_head.any()
    np.testing.assert_allclose(got.d_hidden, hidden.grad, atol=1e-5)
    assert not got.d_hidden[labels == IGNORED].any()


def test_an_encoder_has_no_norm_of_its_own_behind_the_blocks() -> None:
    _, weights, pack_dir = opened("bert")
    assert final_norm(load_manifest(pack_dir), weights).apply(HIDDEN) is HIDDEN
