"""Token and position embeddings, gathered from the map."""

from __future__ import annotations

import numpy as np

from edge_agent.wire.pack import Manifest

from .norm import LayerNorm
from .protocol import Float32, Int32
from .weights import WeightMap


def embed(weights: WeightMap, manifest: Manifest, input_ids: Int32, micro_batch: int) -> Float32:
    """Input of the first block, `(b, s, d_model)`; temporaries are those of `micro_batch` examples."""
    examples, tokens = input_ids.shape
    out = np.empty((examples, tokens, manifest.d_model), np.float32)
    for start in range(0, examples, micro_batch):
        part = slice(start, start + micro_batch)
        out[part] = _embed(weights, manifest, input_ids[part])
    weights.release("embedding")
    return out


def _embed(weights: WeightMap, manifest: Manifest, input_ids: Int32) -> Float32:
    x = weights.gather("embedding.word", input_ids)
    if "embedding.position" in weights:
        x += weights.rows("embedding.position", 0, input_ids.shape[1])
    if "embedding.norm.weight" in weights:
        gain, bias = weights.tensor("embedding.norm.weight"), weights.tensor("embedding.norm.bias")
        x = LayerNorm(gain, bias, manifest.norm_eps).apply(x)
    return x
