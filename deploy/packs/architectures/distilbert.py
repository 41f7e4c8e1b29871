"""DistilBERT (arXiv 1910.01108): the blocks of BERT under other names, no token types, no pooler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from deploy.packs.attention import Heads

from .encoder import Layers, encoder_block, encoder_embeddings
from .parts import Parts, activation, take_blocks, transposed

_LAYERS = Layers(
    query="attention.q_lin",
    key="attention.k_lin",
    value="attention.v_lin",
    mixed="attention.out_lin",
    attended="sa_layer_norm",
    wide="ffn.lin1",
    narrow="ffn.lin2",
    norm="output_layer_norm",
)
_PREFIX = "transformer.layer"
_EPS = 1e-12
"""Of every norm; no setting of the family."""


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`."""
    heads = Heads(config.n_heads, config.dim // config.n_heads, keys=config.n_heads)
    blocks = take_blocks(state, _PREFIX, config.n_layers, _LAYERS.tensors)
    return Parts(
        block=encoder_block(_LAYERS, heads, activation(config.activation), _EPS),
        heads=config.n_heads,
        max_tokens=config.max_position_embeddings,
        pad_token_id=config.pad_token_id,
        module_prefix=_PREFIX,
        blocks=tuple(map(transposed, blocks)),
        embeddings=encoder_embeddings(state, first_position=0),
        norm_eps=_EPS,
    )
