"""The norm behind the last block, which belongs to no block, with its way back. Frozen."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edge_agent.wire.pack import Manifest

from .protocol import Float32
from .weights import WeightMap

_WEIGHT, _BIAS = "final.norm.weight", "final.norm.bias"


class Norm(Protocol):
    """Acts on the last dimension, whatever the others are."""

    def apply(self, x: Float32) -> Float32:
        """The normalised states."""

    def pull(self, x: Float32, dy: Float32) -> Float32:
        """Gradient of `x`, given that of the normalised states."""


class NoNorm:
    """For models that have none."""

    def apply(self, x: Float32) -> Float32:
        """See `Norm`."""
        return x

    def pull(self, x: Float32, dy: Float32) -> Float32:
        """See `Norm`."""
        return dy


class RmsNorm:
    """Root mean square normalisation (arXiv 1910.07467)."""

    def __init__(self, gain: Float32, eps: float) -> None:
        self._gain = gain
        self._eps = np.float32(eps)

    def apply(self, x: Float32) -> Float32:
        """See `Norm`."""
        y: Float32 = x * self._inverse(x) * self._gain
        return y

    def pull(self, x: Float32, dy: Float32) -> Float32:
        """See `Norm`."""
        g, inverse = dy * self._gain, self._inverse(x)
        share = (g * x).mean(axis=-1, keepdims=True) * np.square(inverse)
        dx: Float32 = (g - x * share) * inverse
        return dx

    def _inverse(self, x: Float32) -> Float32:
        inverse: Float32 = 1 / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + self._eps)
        return inverse


class LayerNorm:
    """Layer normalisation (arXiv 1607.06450): of what is centred, root mean square normalisation and a bias."""

    def __init__(self, gain: Float32, bias: Float32, eps: float) -> None:
        self._scaled = RmsNorm(gain, eps)
        self._bias = bias

    def apply(self, x: Float32) -> Float32:
        """See `Norm`."""
        y: Float32 = self._scaled.apply(_centred(x)) + self._bias
        return y

    def pull(self, x: Float32, dy: Float32) -> Float32:
        """See `Norm`."""
        return _centred(self._scaled.pull(_centred(x), dy))


def _centred(x: Float32) -> Float32:
    centred: Float32 = x - x.mean(axis=-1, keepdims=True)
    return centred


def final_norm(manifest: Manifest, weights: WeightMap) -> Norm:
    """The norm that the pack has behind its last block."""
    if _WEIGHT not in weights:
        return NoNorm()
    gain = weights.tensor(_WEIGHT)
    norm = (
        LayerNorm(gain, weights.tensor(_BIAS), manifest.norm_eps)
        if _BIAS in weights
        else RmsNorm(gain, manifest.norm_eps)
    )
    weights.release("final")
    return norm
