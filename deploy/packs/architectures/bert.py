"""BERT and the sentence encoders built on it, MiniLM among them (arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deploy.packs.attention import Heads, attention
from deploy.packs.tape import Tape

from .parts import Block, Linear, Parts, activation, require, take, transposed

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
        block=_block(config),
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


def _block(config: Any) -> Block:
    heads = Heads(config.num_attention_heads, config.hidden_size // config.num_attention_heads)
    act, eps = activation(config.hidden_act), config.layer_norm_eps

    def block(tape: Tape, linear: Linear, x: str) -> str:
        q, k, v = linear(x, "attention.self.query", "attention.self.key", "attention.self.value")
        (mixed,) = linear(attention(tape, q, k, v, heads), "attention.output.dense")
        attended = _norm(tape, tape.add(mixed, x), "attention.output.LayerNorm", eps)
        (wide,) = linear(attended, "intermediate.dense")
        (narrow,) = linear(tape.activation(wide, act), "output.dense")
        return _norm(tape, tape.add(narrow, attended), "output.LayerNorm", eps)

    return block


def _norm(tape: Tape, x: str, name: str, eps: float) -> str:
    return tape.layer_norm(x, f"{name}.weight", f"{name}.bias", eps)
