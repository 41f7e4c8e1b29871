from __future__ import annotations

import pytest
import torch

from deploy.packs.architectures import mpnet
from edge_agent.wire.errors import PackError
from tests.deploy.packs.architectures.families import tiny


def test_every_offset_has_the_bias_of_its_bucket() -> None:
    config, state = tiny("mpnet")
    relative = mpnet.parts(config, state).context["relative"]
    bias = state["encoder.relative_attention_bias.weight"]
    middle = config.max_position_embeddings - 3
    assert relative.shape == (2 * middle + 1, config.num_attention_heads)
    torch.testing.assert_close(relative[middle], bias[0])
    torch.testing.assert_close(relative[middle - 1], bias[1])
    torch.testing.assert_close(relative[middle + 1], bias[17])


def test_other_buckets_are_refused() -> None:
    config, state = tiny("mpnet", relative_attention_num_buckets=16)
    with pytest.raises(PackError, match="relative_attention_num_buckets"):
        mpnet.parts(config, state)
