"""GPT-2 (Radford et al., Language models are unsupervised multitask learners, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deploy.packs.attention import Heads, attention
from deploy.packs.tape import Tape

from .parts import (
    Block,
    Linear,
    Parts,
    activation,
    next_token_output,
    padding_token,
    require,
    take,
    take_blocks,
    weights_and_biases,
)

_FUSED, _MIXED, _WIDE, _NARROW = "attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"
_NORM, _ATTENDED = "ln_1", "ln_2"
_PREFIX = "h"


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`. Its matrices are `(d_in, d_out)` already."""
    require(config, "scale_attn_weights", True)
    require(config, "scale_attn_by_inverse_layer_idx", False)
    require(config, "add_cross_attention", False)
    tensors = weights_and_biases([_FUSED, _MIXED, _WIDE, _NARROW, _NORM, _ATTENDED])
    return Parts(
        block=_block(config),
        heads=config.n_head,
        max_tokens=config.n_positions,
        pad_token_id=padding_token(config),
        module_prefix=_PREFIX,
        blocks=take_blocks(state, _PREFIX, config.n_layer, tensors),
        embeddings=take(state, {"word": "wte.weight", "position": "wpe.weight"}),
        norm_eps=config.layer_norm_epsilon,
        final=take(state, {"norm.weight": "ln_f.weight", "norm.bias": "ln_f.bias"}),
        output=next_token_output(state),
        causal=True,
    )


def _block(config: Any) -> Block:
    heads = Heads(config.n_head, config.n_embd // config.n_head, keys=config.n_head)
    act, eps = activation(config.activation_function), config.layer_norm_epsilon

    def norm(tape: Tape, x: str, name: str) -> str:
        return tape.layer_norm(x, f"{name}.weight", f"{name}.bias", eps)

    def block(tape: Tape, linear: Linear, x: str) -> str:
        (fused,) = linear(norm(tape, x, _NORM), _FUSED)
        q, k, v = tape.split(fused, [config.n_embd] * 3)
        (mixed,) = linear(attention(tape, q, k, v, heads), _MIXED)
        attended = tape.add(mixed, x)
        (wide,) = linear(norm(tape, attended, _ATTENDED), _WIDE)
        (narrow,) = linear(tape.activation(wide, act), _NARROW)
        return tape.add(narrow, attended)

    return block
