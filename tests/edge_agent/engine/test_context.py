from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from transformers.models.llama.modeling_llama import rotate_half

from edge_agent.engine.context import additive_mask, positional
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from tests.models import TOKENS, tiny_pack, tiny_source

ATTENTION = np.array([[1, 1, 1], [1, 1, 0]], dtype=np.int32)


def test_padding_is_not_seen() -> None:
    mask = additive_mask(ATTENTION, causal=False)
    assert (mask.shape, mask.dtype) == ((2, 1, 1, 3), np.float32)
    np.testing.assert_array_equal(mask[:, 0, 0] == 0, ATTENTION == 1)


def test_a_decoders_token_sees_itself_and_those_before() -> None:
    seen = additive_mask(ATTENTION, causal=True)[:, 0] == 0
    np.testing.assert_array_equal(seen[0], [[1, 0, 0], [1, 1, 0], [1, 1, 1]])
    np.testing.assert_array_equal(seen[1], [[1, 0, 0], [1, 1, 0], [1, 1, 0]])


def test_what_is_masked_stays_finite_in_sum() -> None:
    mask = additive_mask(np.zeros((1, 2), np.int32), causal=True)
    assert np.isfinite(mask).all()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_models_of_absolute_positions_need_nothing_else(family: str) -> None:
    pack_dir = tiny_pack("int8", family)
    manifest = load_manifest(pack_dir)
    assert positional(WeightMap(pack_dir, manifest), manifest, 5) == {}


@pytest.mark.parametrize("tokens", [1, 7, TOKENS])
def test_relative_bias_equals_transformers(tokens: int) -> None:
    pack_dir = tiny_pack("int8", "mpnet")
    manifest = load_manifest(pack_dir)
    got = positional(WeightMap(pack_dir, manifest), manifest, tokens)
    model = transformers.AutoModel.from_pretrained(tiny_source(pack_dir))
    expected = model.encoder.compute_position_bias(torch.zeros(1, tokens, 1)).detach()
    assert got.keys() == {"relative"}
    assert got["relative"].flags.c_contiguous
    np.testing.assert_array_equal(got["relative"], expected)


@pytest.mark.parametrize("tokens", [1, 7, TOKENS])
def test_rotary_tables_turn_as_transformers_does(tokens: int) -> None:
    pack_dir = tiny_pack("int8", "llama")
    manifest = load_manifest(pack_dir)
    got = positional(WeightMap(pack_dir, manifest), manifest, tokens)
    model = transformers.AutoModel.from_pretrained(tiny_source(pack_dir))
    cos, sin = (table[0] for table in model.rotary_emb(torch.zeros(1), torch.arange(tokens)[None]))
    x = torch.randn(tokens, cos.shape[1])
    partners = torch.roll(x, cos.shape[1] // 2, dims=-1)
    turned = x * torch.tensor(got["cos"]) + partners * torch.tensor(got["sin"])
    torch.testing.assert_close(turned, x * cos + rotate_half(x) * sin)
