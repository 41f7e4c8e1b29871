from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from deploy.packs.attention import Heads, attention
from tests.deploy.packs.onnx_runner import frozen, run_tape

SEQUENCES, TOKENS, SIZE = 2, 5, 4
GENERATOR = np.random.default_rng(0)
ANGLES = np.tile(np.arange(TOKENS)[:, None] / (1.0, 3.0), 2).astype(np.float32)
COS, SIN = np.cos(ANGLES), np.sin(ANGLES)
HALF = SIZE // 2

KINDS = {
    "one head": Heads(1, SIZE, keys=1),
    "heads": Heads(4, SIZE, keys=4),
    "grouped": Heads(6, SIZE, keys=2),
    "one key for all": Heads(3, SIZE, keys=1),
    "relative": Heads(4, SIZE, keys=4, relative=True),
    "rotary": Heads(4, SIZE, keys=4, rotary=True),
    "rotary and grouped": Heads(4, SIZE, keys=2, rotary=True),
}


def make(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


def make_mask(*, causal: bool) -> np.ndarray:
    """The second sequence is two tokens shorter."""
    seen = np.arange(TOKENS)[None, :] < np.array([[TOKENS], [TOKENS - 2]])
    shown = seen[:, None, None, :] & (np.tri(TOKENS, dtype=bool) if causal else np.ones((1, TOKENS), bool))
    return np.where(shown, np.float32(0), np.finfo(np.float32).min)


@pytest.mark.parametrize("causal", [False, True], ids=["all", "causal"])
@pytest.mark.parametrize("heads", KINDS.values(), ids=KINDS.keys())
def test_attention_and_its_gradients_equal_torchs(heads: Heads, causal: bool) -> None:
    mask, relative = make_mask(causal=causal), make(1, heads.count, TOKENS, TOKENS)
    turns = {"cos": COS, "sin": np.concatenate([-SIN[:, :HALF], SIN[:, HALF:]], axis=1)}
    context = {"mask": mask, "relative": relative, **turns}
    n = SEQUENCES * TOKENS
    inputs = {name: make(n, SIZE * (heads.count if name == "q" else heads.keys)) for name in "qkv"}
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in inputs.items()}
    bias = torch.tensor(mask + relative if heads.relative else mask)
    y = plain_attention(heads, bias, **leaves)
    seed = make(n, SIZE * heads.count)
    y.backward(torch.tensor(seed))
    got, gradients = run_tape(frozen(lambda tape: attention(tape, "q", "k", "v", heads), **context), inputs, seed)
    np.testing.assert_allclose(got, y.detach(), atol=1e-5)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(gradients[name], leaf.grad, atol=1e-5, err_msg=name)


def plain_attention(heads: Heads, bias: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    query, key, value = (t.reshape(SEQUENCES, TOKENS, -1, SIZE).transpose(1, 2) for t in (q, k, v))
    if heads.rotary:
        query, key = apply_rotary_pos_emb(query, key, torch.tensor(COS)[None], torch.tensor(SIN)[None])
    mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias, enable_gqa=True)
    return mixed.transpose(1, 2).reshape(SEQUENCES * TOKENS, -1)
