"""BERT and the sentence encoders built on it, MiniLM among them (arXiv 1810.04805)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deploy.packs.attention import Heads

from .encoder import Layers, encoder_block, encoder_embeddings, encoder_pooler
from .parts import Parts, activation, require, take, take_blocks, transposed

LAYERS = Layers(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    mixed="attention.output.dense",
    attended="attention.output.LayerNorm",
    wide="intermediate.dense",
    narrow="output.dense",
    norm="output.LayerNorm",
)
_PREFIX = "encoder.layer"


def parts(config: Any, state: Mapping[str, Tensor], *, first_position: int = 0) -> Parts:
    """See `take_apart`. `first_position` is the row of the position embedding that the first token has."""
    require(config, "position_embedding_type", "absolute")
    require(config, "is_decoder", False)
    count, eps = config.num_attention_heads, config.layer_norm_eps
    heads = Heads(count, config.hidden_size // count, keys=count)
    embeddings = encoder_embeddings(state, first_position=first_position)
    # A single text is all of token type 0, so that row is a constant of every position.
    embeddings["position"] = embeddings["position"] + _first_token_type(state)
    blocks = take_blocks(state, _PREFIX, config.num_hidden_layers, LAYERS.tensors)
    return Parts(
        block=encoder_block(LAYERS, heads, activation(config.hidden_act), eps),
        heads=count,
        max_tokens=len(embeddings["position"]),
        pad_token_id=config.pad_token_id,
        module_prefix=_PREFIX,
        blocks=tuple(map(transposed, blocks)),
        embeddings=embeddings,
        norm_eps=eps,
        pooler=encoder_pooler(state),
    )


def _first_token_type(state: Mapping[str, Tensor]) -> Tensor:
    return take(state, {"type": "embeddings.token_type_embeddings.weight"})["type"][0]
