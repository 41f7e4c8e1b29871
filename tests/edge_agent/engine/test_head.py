from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.engine.head import (
    FirstPooling,
    LastPooling,
    MeanPooling,
    PoolerPooling,
    Pooling,
    classify,
    cross_entropy,
)
from edge_agent.wire.errors import EngineError

GENERATOR = np.random.default_rng(0)
WEIGHT, BIAS = (GENERATOR.standard_normal(shape).astype(np.float32) for shape in ((6, 6), 6))
MASK = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=np.int32)


def torch_mean(hidden: torch.Tensor) -> torch.Tensor:
    mask = torch.tensor(MASK)[:, :, None]
    return (hidden * mask).sum(1) / mask.sum(1)


def torch_pooler(hidden: torch.Tensor) -> torch.Tensor:
    return torch.tanh(hidden[:, 0] @ torch.tensor(WEIGHT) + torch.tensor(BIAS))


POOLINGS = [
    (MeanPooling(), torch_mean),
    (FirstPooling(), lambda hidden: hidden[:, 0]),
    (LastPooling(), lambda hidden: hidden[range(3), [2, 0, 3]]),
    (PoolerPooling(WEIGHT, BIAS), torch_pooler),
]


@pytest.mark.parametrize(("pooling", "expected"), POOLINGS, ids=["mean", "cls", "last", "pooler"])
def test_pooling_and_its_gradient_equal_torchs(pooling: Pooling, expected: object) -> None:
    hidden = GENERATOR.standard_normal((3, 4, 6)).astype(np.float32)
    d_pooled = GENERATOR.standard_normal((3, 6)).astype(np.float32)
    leaf = torch.tensor(hidden, requires_grad=True)
    pooled = expected(leaf)  # type: ignore[operator]
    pooled.backward(torch.tensor(d_pooled))
    np.testing.assert_allclose(pooling.pool(hidden, MASK), pooled.detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(pooling.pull(hidden, MASK, d_pooled), leaf.grad, atol=1e-6)


def test_cross_entropy_and_its_gradients_equal_torchs() -> None:
    pooled, head = (GENERATOR.standard_normal(shape).astype(np.float32) for shape in ((3, 6), (5, 7)))
    labels = np.array([0, 4, 4], dtype=np.int32)
    p, h = torch.tensor(pooled, requires_grad=True), torch.tensor(head, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(p @ h[:, :-1].T + h[:, -1], torch.tensor(labels, dtype=torch.long))
    loss.backward()
    got = cross_entropy(pooled, head, labels)
    assert got.value == pytest.approx(loss.item(), rel=1e-6)
    assert got.correct == (classify(pooled, head).argmax(1) == labels).sum()
    np.testing.assert_allclose(got.d_head, h.grad, atol=1e-6)
    np.testing.assert_allclose(got.d_pooled, p.grad, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    pooled, head = np.full((1, 1), 1e4, np.float32), np.array([[1, 0], [-1, 0]], np.float32)
    assert cross_entropy(pooled, head, np.array([0], np.int32)).value == 0
    assert cross_entropy(pooled, head, np.array([1], np.int32)).value == pytest.approx(2e4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error(bad: float) -> None:
    with pytest.raises(EngineError, match="not finite"):
        cross_entropy(np.full((1, 1), bad, np.float32), np.ones((2, 2), np.float32), np.array([0], np.int32))
