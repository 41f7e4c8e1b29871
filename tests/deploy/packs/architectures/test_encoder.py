from __future__ import annotations

import pytest
import torch

from deploy.packs.architectures.encoder import Layers, encoder_embeddings, encoder_pooler
from edge_agent.wire.errors import PackError
from tests.deploy.packs.architectures.families import tiny


def test_all_layers_of_a_block_have_weight_and_bias() -> None:
    names = Layers(*"qkvmawno").tensors
    assert names[:2] == ["q.weight", "q.bias"]
    assert len(names) == 16


def test_positions_count_from_the_first_tokens() -> None:
    _, state = tiny("roberta")
    table = state["embeddings.position_embeddings.weight"]
    torch.testing.assert_close(encoder_embeddings(state, first_position=2)["position"], table[2:])


def test_a_missing_tensor_is_named() -> None:
    _, state = tiny("bert")
    del state["embeddings.LayerNorm.bias"]
    with pytest.raises(PackError, match=r"embeddings\.LayerNorm\.bias"):
        encoder_embeddings(state, first_position=0)


def test_a_model_without_pooler_has_an_empty_one() -> None:
    _, state = tiny("bert")
    without = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    torch.testing.assert_close(encoder_pooler(state)["weight"], state["pooler.dense.weight"].t())
    assert encoder_pooler(without) == {}
