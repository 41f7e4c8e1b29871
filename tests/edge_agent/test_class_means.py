"""Means of classes on the tiny pack, against those of one example at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from edge_agent.class_means import class_means
from edge_agent.engine.protocol import Batch, Engine, Prefix
from edge_agent.examples import Tokens, make_batch
from edge_agent.reading import Reading
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.rowset import MEANS_SCALE
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


def test_a_row_is_the_mean_of_the_class_and_its_share(space: Workspace, tokens: Tokens) -> None:
    state = make_state(1)
    (table,) = class_means(space.engine, state, reading_of(space, tokens)).values()
    assert (table.shape, table.dtype) == ((state.layout.classes, state.layout.d_model + 1), np.float32)
    pooled = pooled_alone(space, state, tokens)
    for label, row in enumerate(table):
        mean = pooled[tokens.labels == label].mean(axis=0)
        np.testing.assert_allclose(row[:-1] / MEANS_SCALE, mean, atol=1e-5)
        assert row[-1] == pytest.approx((tokens.labels == label).mean())


def test_a_class_that_does_not_occur_is_zero(space: Workspace, tokens: Tokens) -> None:
    without = some(tokens, np.flatnonzero(tokens.labels != 1))
    table = class_means(space.engine, make_state(1), reading_of(space, without))[HEAD]
    assert not table[1].any()
    assert table[[0, 2]].any(axis=1).all()
    assert table[:, -1].sum() == pytest.approx(1)


@pytest.mark.parametrize(("batch_size", "micro_batch"), [(1, 1), (3, 2), (100, 100)])
def test_the_means_do_not_depend_on_the_batches(
    space: Workspace, tokens: Tokens, batch_size: int, micro_batch: int
) -> None:
    state = make_state(1)
    one = class_means(space.engine, state, reading_of(space, tokens))[HEAD]
    other = class_means(space.engine, state, reading_of(space, tokens, batch_size, micro_batch))[HEAD]
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_what_is_known_of_the_lowest_blocks_is_used(space: Workspace, tokens: Tokens) -> None:
    state = make_state(1)
    plain = reading_of(space, tokens)
    known = LowestBlock(space.engine, compact(state.layout, state.rows, state.mask))
    got = class_means(space.engine, state, replace(plain, prefix=known))[HEAD]
    np.testing.assert_allclose(got, class_means(space.engine, state, plain)[HEAD], atol=1e-5)
    other = LowestBlock(space.engine, compact(state.layout, make_state(2).rows, make_state(2).mask))
    assert np.abs(class_means(space.engine, state, replace(plain, prefix=other))[HEAD] - got).max() > 0.01


def test_the_means_are_of_the_model_as_it_is_adapted(space: Workspace, tokens: Tokens) -> None:
    one, other = (class_means(space.engine, make_state(seed), reading_of(space, tokens))[HEAD] for seed in (1, 2))
    assert np.abs(one[:, :-1] - other[:, :-1]).max() > 0.01
    np.testing.assert_array_equal(one[:, -1], other[:, -1])
