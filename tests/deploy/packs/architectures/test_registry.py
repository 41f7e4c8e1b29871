from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from deploy.packs.architectures import take_apart
from edge_agent.wire.errors import PackError


def bert(**settings: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=10, **shape, **settings))
    return model.config, dict(model.state_dict())


def test_another_family_names_what_is_supported() -> None:
    with pytest.raises(PackError, match="'gpt2' are not supported: use one of type bert"):
        take_apart(transformers.GPT2Config(), {})


def test_a_missing_tensor_is_named() -> None:
    config, state = bert()
    del state["encoder.layer.0.output.dense.weight"]
    with pytest.raises(PackError, match=r"encoder\.layer\.0\.output\.dense\.weight"):
        take_apart(config, state)


def test_an_unknown_activation_is_refused() -> None:
    config, state = bert()
    config.hidden_act = "mish"
    with pytest.raises(PackError, match="mish"):
        take_apart(config, state)


@pytest.mark.parametrize(("key", "value"), [("is_decoder", True), ("position_embedding_type", "relative_key")])
def test_variants_that_compute_something_else_are_refused(key: str, value: Any) -> None:
    config, state = bert()
    setattr(config, key, value)
    with pytest.raises(PackError, match=key):
        take_apart(config, state)


def test_a_model_without_pooler_has_an_empty_one() -> None:
    config, state = bert()
    without = {name: tensor for name, tensor in state.items() if not name.startswith("pooler.")}
    assert set(take_apart(config, state).pooler) == {"weight", "bias"}
    assert take_apart(config, without).pooler == {}
