"""MPNet (arXiv 2004.09297): the blocks of BERT, and one relative position bias for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

from deploy.packs.attention import Heads

from .encoder import Layers, encoder_block, encoder_embeddings, encoder_pooler
from .parts import Parts, activation, require, take, take_blocks, transposed

_LAYERS = Layers(
    query="attention.attn.q",
    key="attention.attn.k",
    value="attention.attn.v",
    mixed="attention.attn.o",
    attended="attention.LayerNorm",
    wide="intermediate.dense",
    narrow="output.dense",
    norm="output.LayerNorm",
)
_PREFIX = "encoder.layer"
_FIRST_POSITION = 2
"""Behind the padding token's index, which is 1 whatever the configuration says."""
_BUCKETS = 32


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`."""
    require(config, "relative_attention_num_buckets", _BUCKETS)
    count, eps = config.num_attention_heads, config.layer_norm_eps
    heads = Heads(count, config.hidden_size // count, keys=count, relative=True)
    embeddings = encoder_embeddings(state, first_position=_FIRST_POSITION)
    max_tokens = len(embeddings["position"])
    blocks = take_blocks(state, _PREFIX, config.num_hidden_layers, _LAYERS.tensors)
    return Parts(
        block=encoder_block(_LAYERS, heads, activation(config.hidden_act), eps),
        heads=count,
        max_tokens=max_tokens,
        pad_token_id=config.pad_token_id,
        module_prefix=_PREFIX,
        blocks=tuple(map(transposed, blocks)),
        embeddings=embeddings,
        norm_eps=eps,
        pooler=encoder_pooler(state),
        context={"relative": _relative(state, max_tokens)},
    )


def _relative(state: Mapping[str, Tensor], max_tokens: int) -> Tensor:
    """The bias of every offset: their buckets grow with the distance."""
    bias = take(state, {"relative": "encoder.relative_attention_bias.weight"})["relative"]
    offsets = torch.arange(1 - max_tokens, max_tokens)
    buckets = MPNetEncoder.relative_position_bucket(offsets, _BUCKETS)  # type: ignore[no-untyped-call]  # as published
    return bias[buckets]
