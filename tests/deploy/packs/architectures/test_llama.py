from __future__ import annotations

import pytest

from deploy.packs.architectures import llama
from edge_agent.wire.errors import PackError
from tests.deploy.packs.architectures.families import tiny

ROPE = {"rope_theta": 10_000.0, "factor": 4.0}


def test_keys_and_values_are_shared_by_heads() -> None:
    config, state = tiny("llama")
    modules = llama.parts(config, state).modules
    assert modules["self_attn.q_proj"] == (32, 32)
    assert modules["self_attn.k_proj"] == modules["self_attn.v_proj"] == (32, 16)


@pytest.mark.parametrize("bias", [False, True])
def test_biases_are_taken_where_the_model_has_them(bias: bool) -> None:
    config, state = tiny("llama", attention_bias=bias, mlp_bias=bias)
    names = llama.parts(config, state).blocks[0]
    assert ("self_attn.q_proj.bias" in names) == ("mlp.down_proj.bias" in names) == bias


def test_rotary_positions_that_depend_on_the_length_are_refused() -> None:
    config, state = tiny("llama", rope_parameters={**ROPE, "rope_type": "dynamic"})
    with pytest.raises(PackError, match="'dynamic'"):
        llama.parts(config, state)


def test_scaled_rotary_positions_are_taken_over() -> None:
    config, state = tiny("llama", rope_parameters={**ROPE, "rope_type": "linear"})
    plain = llama.parts(*tiny("llama")).context
    scaled = llama.parts(config, state).context
    assert (scaled["cos"][4] == plain["cos"][1]).all()
    assert (scaled["sin"][4] == plain["sin"][1]).all()


def test_an_output_layer_of_its_own_is_kept() -> None:
    config, state = tiny("llama", tie_word_embeddings=False)
    assert (llama.parts(config, state).output["word"] == state["lm_head.weight"]).all()
