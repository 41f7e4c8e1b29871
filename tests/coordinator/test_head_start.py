"""The head from statistics of classes, against a classifier that looks for the nearest mean point by point."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.head_start import LOGIT_GAP, SHRINKAGE, ClassStatistics
from edge_agent.update import Part, make_statistics
from edge_agent.wire.class_statistics import SCALE, statistics_layout
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Layout, Module
from edge_agent.wire.rowset import VALUE_LIMIT
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("low", 0, 4, 3),), slots=2, classes=5, d_model=8)
BEFORE = seed_state(LAYOUT, 1).rows[HEAD]
SEEDS = st.integers(0, 10_000)


class Points:
    """Labelled points: clusters far from the origin, as pooled states are."""

    def __init__(self, seed: int, classes: Sequence[int] = range(LAYOUT.classes), spread: float = 1.0) -> None:
        generator = np.random.default_rng(seed)
        centres = 3 + spread * generator.standard_normal((LAYOUT.classes, LAYOUT.d_model))
        self.labels = np.concatenate([classes, generator.choice(classes, 40)])
        noise = 0.3 * spread * generator.standard_normal((len(self.labels), LAYOUT.d_model))
        self.states = (centres[self.labels] + noise).astype(np.float32)
        self.classes = sorted(classes)

    def means(self) -> np.ndarray:
        return np.stack([self.states[self.labels == label].mean(axis=0, dtype=np.float64) for label in self.classes])

    def dealt(self, devices: int, seed: int, scheme: str = "fp32", axes: int = 0) -> list[Update]:
        """The updates of devices among which the points were dealt at random."""
        owner = np.random.default_rng(seed).integers(0, devices, len(self.labels))
        mine = [owner == device for device in set(owner.tolist())]
        return [an_update(self.states[one], self.labels[one], scheme, axes) for one in mine]


def an_update(states: np.ndarray, labels: np.ndarray, scheme: str = "fp32", axes: int = 0) -> Update:
    """What a device with these points sends, with so many axes."""
    layout = statistics_layout(LAYOUT)
    table = np.zeros((layout.classes, layout.d_model + 1), np.float32)
    for label in set(labels.tolist()):
        table[label, :-1] = SCALE * states[labels == label].mean(axis=0, dtype=np.float64)
        table[label, -1] = (labels == label).mean()
    if axes:
        variances, directions = np.linalg.eigh(covariance(states, labels))
        kept = directions[:, -axes:] * np.sqrt(np.maximum(variances[-axes:], 0))
        table[LAYOUT.classes : LAYOUT.classes + axes, :-1] = SCALE * kept.T
        table[LAYOUT.classes, -1] = SCALE * np.sqrt(np.maximum(variances[:-axes], 0).sum() / layout.d_model)
    state = seed_state(LAYOUT, 1)
    return make_statistics(Part(1, state.mask, 1, len(labels), find_scheme(scheme)), state, {HEAD: table})


def covariance(states: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the points about the means of their classes, times their number, by its number."""
    apart = [states[labels == one] - states[labels == one].mean(axis=0) for one in set(labels.tolist())]
    together = np.concatenate(apart).astype(np.float64)
    return together.T @ together / len(labels)


def head_of(updates: Sequence[Update]) -> np.ndarray:
    means = ClassStatistics(LAYOUT)
    for update in updates:
        means.add(update)
    return means.head(BEFORE)


def logits(head: np.ndarray, states: np.ndarray) -> np.ndarray:
    return states @ head[:, :-1].T + head[:, -1]


@settings(deadline=None)
@given(SEEDS, st.integers(1, 6))
def test_the_head_chooses_the_nearest_mean(seed: int, devices: int) -> None:
    points = Points(seed)
    distances = np.square(points.states[:, None] - points.means()[None]).sum(axis=2)
    near = np.sort(distances, axis=1)
    clear = near[:, 1] - near[:, 0] > 1e-3  # nothing is said of a point that lies on a border, but for rounding
    chosen = logits(head_of(points.dealt(devices, seed)), points.states).argmax(axis=1)
    assert clear.mean() > 0.9
    assert (chosen == distances.argmin(axis=1))[clear].all()


@settings(deadline=None)
@given(SEEDS, st.sampled_from(["fp32", "fp16", "int8", "int4"]), st.integers(0, 4), st.randoms())
def test_the_order_of_devices_does_not_matter_to_the_bit(seed: int, scheme: str, axes: int, random: Random) -> None:
    updates = Points(seed).dealt(6, seed, scheme, axes)
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert head_of(updates).tobytes() == head_of(shuffled).tobytes()


@settings(deadline=None)
@given(SEEDS, SEEDS, st.integers(2, 8))
def test_it_does_not_matter_how_examples_are_dealt(seed: int, dealing: int, devices: int) -> None:
    points = Points(seed)
    whole, parts = head_of([an_update(points.states, points.labels)]), head_of(points.dealt(devices, dealing))
    np.testing.assert_allclose(parts, whole, atol=1e-4)


@pytest.mark.parametrize(("scheme", "relative"), [("fp16", 0.01), ("int8", 0.05)])
def test_what_quantisation_changes_is_small(scheme: str, relative: float) -> None:
    points = Points(7)
    exact, got = head_of(points.dealt(4, 1)), head_of(points.dealt(4, 1, scheme))
    assert np.abs(got - exact).max() < relative * np.abs(exact).max()


def test_devices_of_one_class_each_do_as_well() -> None:
    points = Points(3)
    chosen = [points.labels == label for label in points.classes]
    skewed = [an_update(points.states[mine], points.labels[mine]) for mine in chosen]
    np.testing.assert_allclose(head_of(skewed), head_of(points.dealt(3, 1)), atol=1e-4)


def test_a_class_that_nobody_has_is_neither_preferred_nor_ruled_out() -> None:
    points = Points(5, classes=[0, 1, 3, 4])
    head = head_of(points.dealt(3, 1))
    assert not head[2].any()
    distances = np.square(points.states[:, None] - points.means()[None]).sum(axis=2)
    found = logits(head, points.states)[:, points.classes].argmax(axis=1)
    assert (found == distances.argmin(axis=1)).mean() > 0.95


def test_on_average_a_class_is_above_the_mean_example_by_the_gap() -> None:
    points = Points(11)
    own = np.diag(logits(head_of(points.dealt(3, 1)).astype(np.float64), points.means()))
    assert own.mean() == pytest.approx(LOGIT_GAP, rel=1e-4)


@pytest.mark.parametrize("classes", [[0], [4]])
def test_one_class_alone_leaves_the_head_as_it_is(classes: list[int]) -> None:
    assert head_of(Points(2, classes=classes).dealt(3, 1)) is BEFORE


def test_no_device_leaves_the_head_as_it_is() -> None:
    assert head_of([]) is BEFORE


def test_classes_that_are_the_same_leave_the_head_as_it_is() -> None:
    states = np.ones((6, LAYOUT.d_model), np.float32)
    assert head_of([an_update(states, np.array([0, 0, 1, 1, 2, 2]))]) is BEFORE


def test_a_head_that_could_not_travel_is_made_smaller() -> None:
    points = Points(1, spread=1e-3)
    head = head_of(points.dealt(2, 1))
    assert np.abs(head).max() <= VALUE_LIMIT / 2
    assert np.isfinite(head).all() and head.any()


def test_shares_beyond_what_can_be_count_as_all_or_nothing() -> None:
    """A share is a number from the network."""
    points = Points(4, classes=[0, 1])
    good = an_update(points.states, points.labels)
    for label, share in ((0, 50.0), (1, -3.0)):
        good.changes.tables[HEAD].exact[label] = share
    means = ClassStatistics(LAYOUT)
    means.add(good)
    assert means.head(BEFORE) is BEFORE


def stretched(seed: int) -> Points:
    """Points whose classes are no round heaps: they deviate far more along one direction than along others."""
    points = Points(seed)
    generator = np.random.default_rng(seed + 1)
    direction = generator.standard_normal(LAYOUT.d_model)
    points.states += np.outer(3 * generator.standard_normal(len(points.labels)), direction).astype(np.float32)
    return points


def within(updates: Sequence[Update]) -> np.ndarray:
    """The covariance that the axes of `updates` stand for, weighted by examples."""
    total = np.zeros((LAYOUT.d_model, LAYOUT.d_model))
    for update in updates:
        axes = update.changes.rows()[HEAD][int(update.changes.classes[: LAYOUT.classes].sum()) :].astype(np.float64)
        total += (
            axes[:, :-1].T @ axes[:, :-1] + np.square(axes[:, -1]).sum() * np.eye(LAYOUT.d_model)
        ) * update.examples
    return total / sum(update.examples for update in updates)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4))
def test_with_axes_the_head_chooses_the_nearest_mean_in_their_metric(seed: int, devices: int, axes: int) -> None:
    points = stretched(seed)
    updates = points.dealt(devices, seed, axes=axes)
    spread = within(updates)
    spread = (1 - SHRINKAGE) * spread + SHRINKAGE * spread.trace() / LAYOUT.d_model * np.eye(LAYOUT.d_model)
    apart = points.states[:, None].astype(np.float64) - points.means()[None]
    distances = np.einsum("ncd,de,nce->nc", apart, np.linalg.inv(spread), apart)
    near = np.sort(distances, axis=1)
    clear = near[:, 1] - near[:, 0] > 1e-3 * near[:, 1]  # nothing is said of a point on a border, but for rounding
    chosen = logits(head_of(updates), points.states).argmax(axis=1)
    assert clear.mean() > 0.9
    assert (chosen == distances.argmin(axis=1))[clear].all()


def test_where_classes_are_no_round_heaps_axes_tell_more_than_means() -> None:
    def right(seed: int, axes: int) -> float:
        points = stretched(seed)
        return float(
            (logits(head_of(points.dealt(3, 1, axes=axes)), points.states).argmax(axis=1) == points.labels).mean()
        )

    without, with_axes = (np.mean([right(seed, axes) for seed in range(10)]) for axes in (0, 4))
    assert with_axes > without + 0.1


def test_a_variance_beyond_what_can_be_does_not_overflow() -> None:
    """An axis is numbers from the network."""
    points = Points(4)
    updates = points.dealt(2, 1, axes=4)
    for update in updates:
        update.changes.tables[HEAD].codes[-4:] = VALUE_LIMIT
    head = head_of(updates)
    assert np.isfinite(head).all() and head.any()
