"""BERT and the sentence encoders built on it, MiniLM among them (arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .parts import (
    Adapters,
    Block,
    Parts,
    Weights,
    activation,
    adapted,
    attention,
    layer_norm,
    require,
    take,
    transposed,
)

_LINEARS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
_PREFIX = "encoder.layer"


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`."""
    require(config, "position_embedding_type", "absolute")
    require(config, "is_decoder", False)
    names = [f"{layer}.{kind}" for layer in _LINEARS + _NORMS for kind in ("weight", "bias")]
    return Parts(
        block=_block(config.num_attention_heads, config.layer_norm_eps, config.hidden_act),
        heads=config.num_attention_heads,
        max_tokens=config.max_position_embeddings,
        pad_token_id=config.pad_token_id,
        module_prefix=_PREFIX,
        blocks=tuple(
            transposed(take(state, {name: f"{_PREFIX}.{index}.{name}" for name in names}))
            for index in range(config.num_hidden_layers)
        ),
        embeddings=_embeddings(state),
        embedding_norm_eps=config.layer_norm_eps,
        pooler=_pooler(state),
    )


def _embeddings(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    tensors = take(
        state,
        {
            "word": "embeddings.word_embeddings.weight",
            "position": "embeddings.position_embeddings.weight",
            "type": "embeddings.token_type_embeddings.weight",
            "norm.weight": "embeddings.LayerNorm.weight",
            "norm.bias": "embeddings.LayerNorm.bias",
        },
    )
    # A single text is all of token type 0, so that row is a constant of every position.
    tensors["position"] = tensors["position"] + tensors.pop("type")[0]
    return tensors


def _pooler(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "pooler.dense.weight" not in state:
        return {}
    return transposed(take(state, {"weight": "pooler.dense.weight", "bias": "pooler.dense.bias"}))


def _block(heads: int, eps: float, hidden_act: str) -> Block:
    act = activation(hidden_act)

    def block(x: Tensor, mask: Tensor, weights: Weights, adapters: Adapters) -> Tensor:
        flat = x.flatten(0, 1)
        q, k, v = (adapted(flat, f"attention.self.{part}", weights, adapters) for part in ("query", "key", "value"))
        mixed = adapted(attention(q, k, v, mask, heads), "attention.output.dense", weights, adapters)
        attended = layer_norm(mixed + flat, "attention.output.LayerNorm", weights, eps)
        wide = act(adapted(attended, "intermediate.dense", weights, adapters))
        narrow = adapted(wide, "output.dense", weights, adapters)
        return layer_norm(narrow + attended, "output.LayerNorm", weights, eps).reshape(x.shape)

    return block
