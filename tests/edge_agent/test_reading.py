from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.protocol import Batch, Prefix
from edge_agent.examples import Tokens
from edge_agent.reading import Reading
from edge_agent.tokenise import Tokeniser
from edge_agent.wire.pack import TOKENIZER
from tests.models import tiny_pack

TOKENISER = Tokeniser(tiny_pack() / TOKENIZER, 0, 16)


def make_tokens(lengths: Sequence[int]) -> Tokens:
    """Examples whose label is their place, and whose tokens are all 4 and their place."""
    ids = tuple(np.full(length, 4 + place, np.int32) for place, length in enumerate(lengths))
    return Tokens(ids, np.arange(len(lengths), dtype=np.int32))


class Known:
    """Gives every batch a prefix, and remembers whose."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def of(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        self.asked.append(list(chosen))
        states = np.zeros((*batch.input_ids.shape, 1), np.float32)
        return Batch(batch.input_ids, batch.attention_mask, batch.labels, Prefix(1, states))


@given(st.lists(st.integers(1, 16), max_size=20), st.integers(1, 7))
def test_every_example_comes_once_the_longest_first(lengths: list[int], batch_size: int) -> None:
    batches = list(Reading(make_tokens(lengths), TOKENISER, batch_size, 1).batches())
    assert all(len(batch.input_ids) == batch_size for batch in batches[:-1])
    places = [int(place) for batch in batches if batch.labels is not None for place in batch.labels]
    assert sorted(places) == list(range(len(lengths)))
    assert [lengths[place] for place in places] == sorted(lengths, reverse=True)


def test_examples_keep_their_labels() -> None:
    for batch in Reading(make_tokens([3, 9, 5]), TOKENISER, 2, 1).batches():
        assert batch.labels is not None and batch.prefix is None
        assert (batch.input_ids[:, 0] == 4 + batch.labels).all()


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_what_is_known_of_the_examples_comes_with_them(batch_size: int) -> None:
    known = Known()
    batches = list(Reading(make_tokens([3, 9, 5]), TOKENISER, batch_size, 1, known).batches())
    assert all(batch.prefix is not None for batch in batches)
    assert known.asked == [batch.labels.tolist() for batch in batches if batch.labels is not None]
