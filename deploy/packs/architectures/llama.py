"""Decoders of Llama's shape, SmolLM2 among them (arXiv 2302.13971)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from deploy.packs.attention import Heads, attention
from deploy.packs.tape import Tape
from edge_agent.wire.errors import PackError

from .parts import (
    Block,
    Linear,
    Parts,
    activation,
    next_token_output,
    padding_token,
    take,
    take_blocks,
    transposed,
)

_QUERY, _KEY, _VALUE, _MIXED = (f"self_attn.{name}_proj" for name in "qkvo")
_GATE, _UP, _DOWN = (f"mlp.{name}_proj" for name in ("gate", "up", "down"))
_NORM, _ATTENDED = "input_layernorm", "post_attention_layernorm"
_PREFIX = "layers"
_FIXED_TURNS = ("default", "linear", "llama3", "yarn")
"""Ways to scale rotary positions that do not depend on the text's length."""


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`."""
    return Parts(
        block=_block(config),
        heads=config.num_attention_heads,
        max_tokens=config.max_position_embeddings,
        pad_token_id=padding_token(config),
        module_prefix=_PREFIX,
        blocks=tuple(map(transposed, take_blocks(state, _PREFIX, config.num_hidden_layers, _tensors(config)))),
        embeddings=take(state, {"word": "embed_tokens.weight"}),
        norm_eps=config.rms_norm_eps,
        context=_turns(config),
        final=take(state, {"norm.weight": "norm.weight"}),
        output=next_token_output(state),
        causal=True,
    )


def _tensors(config: Any) -> list[str]:
    layers = [_QUERY, _KEY, _VALUE, _MIXED, _GATE, _UP, _DOWN, _NORM, _ATTENDED]
    biased = [_QUERY, _KEY, _VALUE, _MIXED] * config.attention_bias + [_GATE, _UP, _DOWN] * config.mlp_bias
    return [f"{layer}.weight" for layer in layers] + [f"{layer}.bias" for layer in biased]


def _turns(config: Any) -> dict[str, Tensor]:
    """The rotary tables of every position, as the model itself computes them."""
    kind = config.rope_parameters["rope_type"]
    if kind not in _FIXED_TURNS:
        raise PackError(f"rotary positions of type {kind!r} are not supported: only {', '.join(_FIXED_TURNS)} are")
    positions = torch.arange(config.max_position_embeddings)[None]
    cos, sin = LlamaRotaryEmbedding(config)(torch.zeros(1), positions)
    first, second = sin[0].chunk(2, dim=-1)
    return {"cos": cos[0], "sin": torch.cat([-first, second], dim=-1)}


def _block(config: Any) -> Block:
    heads = Heads(config.num_attention_heads, config.head_dim, keys=config.num_key_value_heads, rotary=True)
    act, eps = activation(config.hidden_act), config.rms_norm_eps

    def block(tape: Tape, linear: Linear, x: str) -> str:
        q, k, v = linear(tape.rms_norm(x, f"{_NORM}.weight", eps), _QUERY, _KEY, _VALUE)
        (mixed,) = linear(attention(tape, q, k, v, heads), _MIXED)
        attended = tape.add(mixed, x)
        gate, up = linear(tape.rms_norm(attended, f"{_ATTENDED}.weight", eps), _GATE, _UP)
        (narrow,) = linear(tape.mul(tape.activation(gate, act), up), _DOWN)
        return tape.add(narrow, attended)

    return block
