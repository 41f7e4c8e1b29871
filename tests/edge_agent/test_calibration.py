from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.calibration import log_prior
from edge_agent.engine.head import cross_entropy

CLASSES, D_MODEL = 4, 6
LABELS = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=40)


def make_labels(*labels: int) -> np.ndarray:
    return np.array(labels, np.int32)


def shifted(head: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """`head` with `prior` in its biases."""
    moved = head.copy()
    moved[:, -1] += prior
    return moved


def make_case(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pooled states and a head."""
    generator = np.random.default_rng(seed)
    pooled = generator.standard_normal((count, D_MODEL)).astype(np.float32)
    return pooled, generator.standard_normal((CLASSES, D_MODEL + 1)).astype(np.float32)


def test_without_strength_there_is_nothing_to_add() -> None:
    assert log_prior(make_labels(0, 1, 1), CLASSES, 0.0) is None


@given(LABELS, st.floats(0.01, 1))
def test_the_prior_is_the_logarithm_of_the_shares_times_the_strength(labels: list[int], strength: float) -> None:
    prior = log_prior(make_labels(*labels), CLASSES, strength)
    assert prior is not None and prior.dtype == np.float32
    for label in set(labels):
        assert prior[label] == pytest.approx(strength * np.log(labels.count(label) / len(labels)), abs=1e-5)


@given(LABELS)
def test_a_class_that_does_not_occur_is_finite_and_below_all_others(labels: list[int]) -> None:
    prior = log_prior(make_labels(*labels), CLASSES, 1.0)
    assert prior is not None and np.isfinite(prior).all()
    absent = [label for label in range(CLASSES) if label not in labels]
    assert all(prior[label] < prior[labels].min() - 5 for label in absent)


@given(st.integers(0, CLASSES - 1), st.integers(1, 20), st.integers(0, 100))
def test_a_device_of_one_class_has_nothing_to_learn(label: int, count: int, seed: int) -> None:
    pooled, head = (0.1 * array for array in make_case(count, seed))
    labels = np.full(count, label, np.int32)
    prior = log_prior(labels, CLASSES, 1.0)
    assert prior is not None
    calibrated = cross_entropy(pooled, shifted(head, prior), labels)
    assert max(np.abs(calibrated.d_head).max(), np.abs(calibrated.d_pooled).max()) < 1e-3
    assert np.abs(cross_entropy(pooled, head, labels).d_head).max() > 1e-2


def test_where_all_classes_are_as_frequent_the_loss_stays_as_it_is() -> None:
    labels = make_labels(*range(CLASSES), *range(CLASSES))
    pooled, head = make_case(len(labels))
    prior = log_prior(labels, CLASSES, 1.0)
    assert prior is not None
    plain, calibrated = cross_entropy(pooled, head, labels), cross_entropy(pooled, shifted(head, prior), labels)
    assert calibrated.value == pytest.approx(plain.value, abs=1e-5)
    np.testing.assert_allclose(calibrated.d_head, plain.d_head, atol=1e-5)


def test_the_gradient_with_shifted_biases_is_that_of_the_loss_of_adjusted_logits() -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle of this test: install the `pack` extra")
    labels = make_labels(0, 0, 0, 1, 3)
    pooled, head = make_case(len(labels))
    prior = log_prior(labels, CLASSES, 0.7)
    assert prior is not None
    tensor = torch.tensor(head, requires_grad=True)
    logits = torch.tensor(pooled) @ tensor[:, :-1].T + tensor[:, -1]
    loss = torch.nn.functional.cross_entropy(logits + torch.tensor(prior), torch.tensor(labels, dtype=torch.long))
    loss.backward()
    got = cross_entropy(pooled, shifted(head, prior), labels)
    assert got.value == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(got.d_head, tensor.grad.numpy(), atol=1e-5)
