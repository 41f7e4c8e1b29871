"""What follows the last block: pooling, the head, and its loss, with the way back."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.wire.errors import EngineError, PackError
from edge_agent.wire.pack import Manifest

from .protocol import Float32, Int32
from .weights import WeightMap

Places = npt.NDArray[np.integer]


class Pooling(Protocol):
    """From hidden states `(b, s, d)` to one vector `(b, d)` an example."""

    def pool(self, hidden: Float32, attention_mask: Int32) -> Float32:
        """The pooled vectors."""

    def pull(self, hidden: Float32, attention_mask: Int32, d_pooled: Float32) -> Float32:
        """Gradient of the hidden states `(b, s, d)`, given that of the pooled vectors."""


class MeanPooling:
    """The mean over the tokens, padding left out: sentence encoders."""

    def pool(self, hidden: Float32, attention_mask: Int32) -> Float32:
        """See `Pooling`."""
        pooled: Float32 = np.einsum("bsd,bs->bd", hidden, self._shares(attention_mask))
        return pooled

    def pull(self, hidden: Float32, attention_mask: Int32, d_pooled: Float32) -> Float32:
        """See `Pooling`."""
        d_hidden: Float32 = d_pooled[:, None, :] * self._shares(attention_mask)[:, :, None]
        return d_hidden

    def _shares(self, attention_mask: Int32) -> Float32:
        mask = attention_mask.astype(np.float32)
        shares: Float32 = mask / mask.sum(axis=1, keepdims=True)
        return shares


class FirstPooling:
    """The first token's state."""

    def pool(self, hidden: Float32, attention_mask: Int32) -> Float32:
        """See `Pooling`."""
        return hidden[:, 0].copy()

    def pull(self, hidden: Float32, attention_mask: Int32, d_pooled: Float32) -> Float32:
        """See `Pooling`."""
        d_hidden = np.zeros_like(hidden)
        d_hidden[:, 0] = d_pooled
        return d_hidden


class LastPooling:
    """The last token's state, which has seen all the others: decoders."""

    def pool(self, hidden: Float32, attention_mask: Int32) -> Float32:
        """See `Pooling`."""
        return hidden[self._last(attention_mask)]

    def pull(self, hidden: Float32, attention_mask: Int32, d_pooled: Float32) -> Float32:
        """See `Pooling`."""
        d_hidden = np.zeros_like(hidden)
        d_hidden[self._last(attention_mask)] = d_pooled
        return d_hidden

    def _last(self, attention_mask: Int32) -> tuple[Places, Places]:
        """Padding is on the right."""
        return np.arange(len(attention_mask)), attention_mask.sum(axis=1) - 1


class PoolerPooling:
    """The model's own pooler, frozen: `tanh(first W + bias)`, `W (d, d)`."""

    def __init__(self, weight: Float32, bias: Float32) -> None:
        self._weight = weight
        self._bias = bias
        self._first = FirstPooling()

    def pool(self, hidden: Float32, attention_mask: Int32) -> Float32:
        """See `Pooling`."""
        pooled: Float32 = np.tanh(self._first.pool(hidden, attention_mask) @ self._weight + self._bias)
        return pooled

    def pull(self, hidden: Float32, attention_mask: Int32, d_pooled: Float32) -> Float32:
        """See `Pooling`."""
        d_sum = d_pooled * (1 - np.square(self.pool(hidden, attention_mask)))
        return self._first.pull(hidden, attention_mask, d_sum @ self._weight.T)


_WITHOUT_WEIGHTS: dict[str, type[MeanPooling | FirstPooling | LastPooling]] = {
    "mean": MeanPooling,
    "cls": FirstPooling,
    "last": LastPooling,
}


def pooling_of(manifest: Manifest, weights: WeightMap) -> Pooling:
    """The pooling that the pack asks for.

    Raises:
        PackError: the pooler was asked for and is not in the pack.
    """
    if manifest.pooling in _WITHOUT_WEIGHTS:
        return _WITHOUT_WEIGHTS[manifest.pooling]()
    if "pooler.weight" not in weights:
        raise PackError("the manifest asks for the model's pooler, which the pack lacks: build the pack again")
    pooler = PoolerPooling(weights.tensor("pooler.weight"), weights.tensor("pooler.bias"))
    weights.release("pooler")
    return pooler


def classify(pooled: Float32, head: Float32) -> Float32:
    """Logits `(b, classes)` of a head with rows `[w_c | bias_c]`."""
    logits: Float32 = pooled @ head[:, :-1].T + head[:, -1]
    return logits


class Loss(NamedTuple):
    """Mean cross-entropy in nats, right predictions, and the gradients of the head and of the pooled vectors."""

    value: float
    correct: int
    d_head: Float32
    d_pooled: Float32


def cross_entropy(pooled: Float32, head: Float32, labels: Int32) -> Loss:
    """The loss of the head's logits, and its way back.

    Raises:
        EngineError: the logits, and so the loss, are not finite.
    """
    logits = classify(pooled, head)
    if not np.isfinite(logits).all():
        raise EngineError("the logits are not finite: the ranks or the head have diverged, use a smaller learning rate")
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    examples = np.arange(len(labels))
    value = -float(log_probabilities[examples, labels].mean())
    d_logits = np.exp(log_probabilities)
    d_logits[examples, labels] -= 1
    d_logits /= len(labels)
    d_head = np.concatenate([d_logits.T @ pooled, d_logits.sum(axis=0)[:, None]], axis=1)
    correct = int((logits.argmax(axis=1) == labels).sum())
    return Loss(value, correct, d_head, d_logits @ head[:, :-1])
