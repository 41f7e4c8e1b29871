"""The loss of a decoder that tells the next token, streamed over the vocabulary: no matrix of tokens by vocabulary.

The word table is gone through twice, a few rows at a time: for the logarithm of the sum of exponentials, which is
corrected as larger logits come (arXiv 1805.02867), and for the gradient, which needs that sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import Manifest

from .protocol import Float32, Int32
from .weights import WeightMap

IGNORED = -100
"""The label of a token whose successor does not count, as in torch and transformers."""

_CHUNK_BYTES = 2**23
"""Rows of the word table in float32 and their logits together."""
_FLOAT32_BYTES = 4
_SECTIONS = ("output", "embedding")


class NextTokenLoss(NamedTuple):
    """Mean cross-entropy in nats over the counted tokens, how many were told right, and the gradient of the states."""

    value: float
    correct: int
    d_hidden: Float32


def next_tokens(input_ids: Int32, attention_mask: Int32) -> Int32:
    """The labels that a text is for itself, `(b, s)`: for each token the next; for the last and padding `IGNORED`."""
    labels = np.full_like(input_ids, IGNORED)
    labels[:, :-1] = np.where(attention_mask[:, 1:].astype(bool), input_ids[:, 1:], IGNORED)
    return labels


class Vocabulary:
    """The table `(vocabulary, d)` whose product with a state gives the logits: a layer of its own, or the embedding."""

    def __init__(self, manifest: Manifest, weights: WeightMap) -> None:
        self._weights = weights
        self._size = manifest.vocabulary
        self._section = next(section for section in _SECTIONS if f"{section}.word" in weights)

    def chunks(self, tokens: int, d_model: int) -> Iterator[tuple[int, Float32]]:
        """The rows in float32, a few at a time, each time with the index of the first."""
        rows = max(1, _CHUNK_BYTES // (_FLOAT32_BYTES * (tokens + d_model)))
        for start in range(0, self._size, rows):
            yield start, self._weights.rows(f"{self._section}.word", start, min(start + rows, self._size))

    def loss(self, states: Float32, labels: Int32) -> NextTokenLoss:
        """The loss of `states (n, d)`, each of which counts, for the tokens `labels (n,)`, and its way back.

        Raises:
            EngineError: the logits, and so the loss, are not finite.
        """
        sums, told = self._sums(states, labels)
        value = float((sums - told.logits).mean(dtype=np.float64))
        if not np.isfinite(value):
            raise EngineError("the logits are not finite: the ranks have diverged, use a smaller learning rate")
        correct = int((told.best == labels).sum())
        return NextTokenLoss(value, correct, self._pull(states, labels, sums))

    def _sums(self, states: Float32, labels: Int32) -> tuple[Float32, _Told]:
        """The logarithm of each state's sum of exponentials, and what was told."""
        count = len(states)
        most, sums = np.full(count, -np.inf, np.float32), np.zeros(count, np.float32)
        told = _Told(np.zeros(count, np.int64), np.zeros(count, np.float32))
        every = np.arange(count)
        for start, rows in self.chunks(*states.shape):
            logits = states @ rows.T
            best = logits.argmax(axis=1)
            highest = logits[every, best]
            higher = highest > most
            told.best[higher] = start + best[higher]
            most, before = np.maximum(most, highest), most
            here = _within(labels, start, len(rows))
            told.logits[here] = logits[here, labels[here] - start]
            sums = sums * np.exp(before - most) + np.exp(logits - most[:, None]).sum(axis=1)
        return most + np.log(sums), told

    def _pull(self, states: Float32, labels: Int32, sums: Float32) -> Float32:
        d_states = np.zeros_like(states)
        for start, rows in self.chunks(*states.shape):
            d_logits = np.exp(states @ rows.T - sums[:, None])
            here = _within(labels, start, len(rows))
            d_logits[here, labels[here] - start] -= 1
            d_states += d_logits @ rows
        return d_states / np.float32(len(states))


class _Told(NamedTuple):
    """Of each state the token with the highest logit, and the logit of the right one."""

    best: npt.NDArray[np.int64]
    logits: Float32


def _within(labels: Int32, start: int, count: int) -> npt.NDArray[np.intp]:
    return np.flatnonzero((labels >= start) & (labels < start + count))
