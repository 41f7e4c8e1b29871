from __future__ import annotations

import pytest

from deploy.packs.architectures import gpt2
from edge_agent.wire.errors import PackError
from tests.deploy.packs.architectures.families import tiny


def test_query_key_and_value_are_one_module() -> None:
    config, state = tiny("gpt2")
    parts = gpt2.parts(config, state)
    assert list(parts.modules) == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert parts.modules["attn.c_attn"] == (32, 96)


@pytest.mark.parametrize(
    ("key", "value"),
    [("scale_attn_weights", False), ("scale_attn_by_inverse_layer_idx", True), ("add_cross_attention", True)],
)
def test_variants_that_compute_something_else_are_refused(key: str, value: bool) -> None:
    config, state = tiny("gpt2")
    setattr(config, key, value)
    with pytest.raises(PackError, match=key):
        gpt2.parts(config, state)
