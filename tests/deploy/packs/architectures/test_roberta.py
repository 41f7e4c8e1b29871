from __future__ import annotations

import pytest

from deploy.packs.architectures import roberta
from tests.deploy.packs.architectures.families import tiny


@pytest.mark.parametrize("pad", [0, 1, 3])
def test_positions_start_behind_the_padding_tokens_index(pad: int) -> None:
    config, state = tiny("roberta", pad_token_id=pad)
    parts = roberta.parts(config, state)
    kind = state["embeddings.token_type_embeddings.weight"][0]
    expected = state["embeddings.position_embeddings.weight"][pad + 1] + kind
    assert (parts.embeddings["position"][0] == expected).all()
    assert parts.max_tokens == config.max_position_embeddings - pad - 1
    assert parts.pad_token_id == pad
