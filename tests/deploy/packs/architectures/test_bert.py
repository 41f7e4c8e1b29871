from __future__ import annotations

from typing import Any

import pytest
import torch

from deploy.packs.architectures import bert
from edge_agent.wire.errors import PackError
from tests.deploy.packs.architectures.families import tiny


@pytest.mark.parametrize(("key", "value"), [("is_decoder", True), ("position_embedding_type", "relative_key")])
def test_variants_that_compute_something_else_are_refused(key: str, value: Any) -> None:
    config, state = tiny("bert")
    setattr(config, key, value)
    with pytest.raises(PackError, match=key):
        bert.parts(config, state)


def test_an_unknown_activation_is_refused() -> None:
    config, state = tiny("bert")
    config.hidden_act = "mish"
    with pytest.raises(PackError, match="mish"):
        bert.parts(config, state)


def test_the_first_token_type_is_in_every_position() -> None:
    config, state = tiny("bert")
    kind = state["embeddings.token_type_embeddings.weight"][0]
    position = state["embeddings.position_embeddings.weight"]
    torch.testing.assert_close(bert.parts(config, state).embeddings["position"], position + kind)
