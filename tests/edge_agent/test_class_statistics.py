"""Statistics of classes on the tiny pack, against those of one example at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edge_agent.class_statistics import AXES_SHARE, class_statistics
from edge_agent.engine.protocol import Batch, Engine, Prefix
from edge_agent.examples import Tokens, make_batch
from edge_agent.reading import Reading
from edge_agent.wire.class_statistics import SCALE, most_axes
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace
from tests.agents import make_terms
from tests.runs import make_state


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(make_terms(tmp_path_factory.mktemp("agent")))


@pytest.fixture(scope="module")
def tokens(space: Workspace) -> Tokens:
    return space.examples(space.max_tokens)[0]


@dataclass(frozen=True)
class LowestBlock:
    """Knows what the lowest block makes of the examples."""

    engine: Engine
    rows: Rows

    def of(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        states = self.engine.hidden(batch, self.rows, blocks=1, micro_batch=2)
        return Batch(batch.input_ids, batch.attention_mask, batch.labels, Prefix(1, states))


def reading_of(space: Workspace, tokens: Tokens, batch_size: int = 8, micro_batch: int = 4) -> Reading:
    return Reading(tokens, space.tokeniser(space.max_tokens), batch_size, micro_batch)


def some(tokens: Tokens, chosen: np.ndarray) -> Tokens:
    return Tokens(tuple(tokens.ids[place] for place in chosen), tokens.labels[chosen])


def pooled_alone(space: Workspace, state: ModelState, tokens: Tokens) -> np.ndarray:
    """The pooled state of every example, each computed by itself."""
    rows, tokeniser = compact(state.layout, state.rows, state.mask), space.tokeniser(space.max_tokens)
    batches = (make_batch(tokens, [place], tokeniser) for place in range(len(tokens)))
    return np.concatenate([space.engine.pooled(batch, rows, micro_batch=1) for batch in batches])


def means_of(space: Workspace, state: ModelState, reading: Reading) -> np.ndarray:
    """The rows of the classes."""
    return class_statistics(space.engine, state, reading, axes=False)[HEAD][: state.layout.classes]


def axes_of(space: Workspace, state: ModelState, reading: Reading) -> np.ndarray:
    """The rows behind those of the classes."""
    return class_statistics(space.engine, state, reading, axes=True)[HEAD][state.layout.classes :]


def covariance(pooled: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of pooled states about the means of their classes, from its definition."""
    apart = np.concatenate([pooled[labels == one] - pooled[labels == one].mean(axis=0) for one in set(labels.tolist())])
    return apart.T.astype(np.float64) @ apart / len(labels)


def test_a_row_is_the_mean_of_the_class_and_its_share(space: Workspace, tokens: Tokens) -> None:
    state = make_state(1)
    (table,) = class_statistics(space.engine, state, reading_of(space, tokens), axes=False).values()
    width = state.layout.d_model
    assert (table.shape, table.dtype) == ((state.layout.classes + most_axes(width), width + 1), np.float32)
    pooled = pooled_alone(space, state, tokens)
    for label, row in enumerate(table[: state.layout.classes]):
        mean = pooled[tokens.labels == label].mean(axis=0)
        np.testing.assert_allclose(row[:-1] / SCALE, mean, atol=1e-5)
        assert row[-1] == pytest.approx((tokens.labels == label).mean())
    assert not table[state.layout.classes :].any(), "axes were not asked for"


def test_a_class_that_does_not_occur_is_zero(space: Workspace, tokens: Tokens) -> None:
    without = some(tokens, np.flatnonzero(tokens.labels != 1))
    table = means_of(space, make_state(1), reading_of(space, without))
    assert not table[1].any()
    assert table[[0, 2]].any(axis=1).all()
    assert table[:, -1].sum() == pytest.approx(1)


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(1, 1), (3, 2), (100, 100)])
def test_the_means_do_not_depend_on_the_batches(
    space: Workspace, tokens: Tokens, batch_size: int, micro_batch: int
) -> None:
    state = make_state(1)
    one = means_of(space, state, reading_of(space, tokens))
    other = means_of(space, state, reading_of(space, tokens, batch_size, micro_batch))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_known_of_the_lowest_blocks_is_used(space: Workspace, tokens: Tokens) -> None:
    state = make_state(1)
    plain = reading_of(space, tokens)
    known = LowestBlock(space.engine, compact(state.layout, state.rows, state.mask))
    got = means_of(space, state, replace(plain, prefix=known))
    np.testing.assert_allclose(got, means_of(space, state, plain), atol=1e-5)
    other = LowestBlock(space.engine, compact(state.layout, make_state(2).rows, make_state(2).mask))
    assert np.abs(means_of(space, state, replace(plain, prefix=other)) - got).max() > 0.01


def test_the_means_are_of_the_model_as_it_is_adapted(space: Workspace, tokens: Tokens) -> None:
    one, other = (means_of(space, make_state(seed), reading_of(space, tokens)) for seed in (1, 2))
    assert np.abs(one[:, :-1] - other[:, :-1]).max() > 0.01
    np.testing.assert_array_equal(one[:, -1], other[:, -1])


def test_axes_are_the_principal_directions_as_long_as_the_deviation_along_them(
    space: Workspace, tokens: Tokens
) -> None:
    state = make_state(1)
    axes = axes_of(space, state, reading_of(space, tokens)).astype(np.float64) / SCALE
    whole = covariance(pooled_alone(space, state, tokens), tokens.labels)
    count = int(axes[:, :-1].any(axis=1).sum())
    directions = axes[:count, :-1]
    lengths = np.linalg.norm(directions, axis=1)
    assert (np.diff(lengths) <= 1e-6).all()
    np.testing.assert_allclose(whole @ directions.T, directions.T * lengths**2, atol=1e-4 * lengths[0] ** 2)
    np.testing.assert_allclose(directions @ directions.T, np.diag(lengths**2), atol=1e-4 * lengths[0] ** 2)


def test_axes_hold_their_share_of_the_variance_and_the_rest_is_told(space: Workspace, tokens: Tokens) -> None:
    state = make_state(1)
    axes = axes_of(space, state, reading_of(space, tokens)).astype(np.float64) / SCALE
    variance = covariance(pooled_alone(space, state, tokens), tokens.labels).trace()
    lengths = np.square(axes[:, :-1]).sum(axis=1)
    count = int((lengths > 0).sum())
    assert 1 < count < most_axes(state.layout.d_model), "fewer than all are enough here"
    assert lengths[: count - 1].sum() < AXES_SHARE * variance <= lengths.sum()
    assert lengths.sum() + state.layout.d_model * axes[0, -1] ** 2 == pytest.approx(variance, rel=1e-4)
    assert not axes[1:, -1].any()


def test_one_example_a_class_has_no_axes(space: Workspace, tokens: Tokens) -> None:
    single = some(tokens, np.array([int(np.flatnonzero(tokens.labels == label)[0]) for label in (0, 1, 2)]))
    axes = axes_of(space, make_state(1), reading_of(space, single))
    assert np.abs(axes).max() < 1e-6


def test_axes_change_nothing_of_the_means(space: Workspace, tokens: Tokens) -> None:
    state, reading = make_state(1), reading_of(space, tokens)
    both = class_statistics(space.engine, state, reading, axes=True)[HEAD]
    np.testing.assert_array_equal(both[: state.layout.classes], means_of(space, state, reading))
