"""What follows the last block, and how wrong it is: the class of a text, or its next tokens."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from edge_agent.wire.pack import Manifest

from .head import cross_entropy, pooling_of
from .next_token import IGNORED, Vocabulary
from .norm import final_norm
from .protocol import Batch, Float32, Int32
from .weights import WeightMap


class ObjectiveLoss(NamedTuple):
    """Mean cross-entropy in nats, right predictions, and the gradients of the head and of the hidden states."""

    value: float
    correct: int
    d_head: Float32
    d_hidden: Float32


class Objective:
    """What a pack has behind its last block. Hidden states are `(b, s, d)`, the head's rows `[w_c | bias_c]`."""

    def __init__(self, manifest: Manifest, weights: WeightMap) -> None:
        self._manifest = manifest
        self._weights = weights
        self._norm = final_norm(manifest, weights)
        self._pooling = pooling_of(manifest, weights)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._manifest, self._weights)

    def pooled(self, hidden: Float32, batch: Batch) -> Float32:
        """What the head sees of each example, `(b, d)`."""
        return self._pooling.pool(self._norm.apply(hidden), batch.attention_mask)

    def loss(self, hidden: Float32, batch: Batch, labels: Int32, head: Float32) -> ObjectiveLoss:
        """The loss for the classes `labels (b,)` or the next tokens `labels (b, s)`, and its way back.

        Raises:
            EngineError: the loss is not finite.
        """
        if labels.ndim == 1:
            return self._class(hidden, batch, labels, head)
        return self._next_token(hidden, labels, head)

    def _class(self, hidden: Float32, batch: Batch, labels: Int32, head: Float32) -> ObjectiveLoss:
        normed = self._norm.apply(hidden)
        loss = cross_entropy(self._pooling.pool(normed, batch.attention_mask), head, labels)
        d_normed = self._pooling.pull(normed, batch.attention_mask, loss.d_pooled)
        return ObjectiveLoss(loss.value, loss.correct, loss.d_head, self._norm.pull(hidden, d_normed))

    def _next_token(self, hidden: Float32, labels: Int32, head: Float32) -> ObjectiveLoss:
        """The head has no part in it, nor have the states of tokens that do not count."""
        counted = labels != IGNORED
        states = hidden[counted]
        loss = self._vocabulary.loss(self._norm.apply(states), labels[counted])
        d_hidden = np.zeros_like(hidden)
        d_hidden[counted] = self._norm.pull(states, loss.d_hidden)
        return ObjectiveLoss(loss.value, loss.correct, np.zeros_like(head), d_hidden)
