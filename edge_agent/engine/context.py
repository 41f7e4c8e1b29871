"""What the blocks take besides hidden states and weights: who sees whom, and where the tokens stand."""

from __future__ import annotations

import numpy as np

from edge_agent.wire.pack import Manifest

from .protocol import Float32, Int32
from .weights import WeightMap

_MASKED = np.finfo(np.float32).min


def additive_mask(attention_mask: Int32, *, causal: bool) -> Float32:
    """The mask as graphs take it, `(b, 1, 1, s)` or `(b, 1, s, s)`: zero for what is seen, else the lowest number."""
    seen = attention_mask[:, None, None, :].astype(bool)
    if causal:
        seen = seen & np.tri(attention_mask.shape[1], dtype=bool)
    return np.where(seen, np.float32(0), _MASKED)


def positional(weights: WeightMap, manifest: Manifest, tokens: int) -> dict[str, Float32]:
    """Those inputs of the graphs that depend on the positions of `tokens` tokens, as far as the pack has them.

    `relative (1, heads, s, s)`, `cos` and `sin` `(s, size)`: see `edge_agent.wire.pack.Manifest`.
    """
    found = {}
    if "context.relative" in weights:
        near = weights.rows("context.relative", manifest.max_tokens - tokens, manifest.max_tokens + tokens - 1)
        places = np.arange(tokens)
        offsets = places[None, :] - places[:, None] + tokens - 1
        found["relative"] = np.ascontiguousarray(near[offsets].transpose(2, 0, 1)[None])
    for name in ("cos", "sin"):
        if f"context.{name}" in weights:
            found[name] = weights.rows(f"context.{name}", 0, tokens)
    return found
