from __future__ import annotations

import pytest
import torch

from deploy.packs.architectures.parts import Adapter, activation, adapted, attention
from edge_agent.wire.errors import PackError


def test_an_adapted_layer_is_a_dense_layer_of_w0_plus_b_e_a() -> None:
    x, W0, bias = torch.randn(5, 4), torch.randn(4, 6), torch.randn(6)
    A, E, B = torch.randn(3, 4), torch.randn(3), torch.randn(3, 6)
    got = adapted(x, "query", {"query.weight": W0, "query.bias": bias}, {"query": Adapter(A, E, B)})
    torch.testing.assert_close(got, x @ (W0 + A.T @ torch.diag(E) @ B) + bias)


def test_attention_equals_torchs() -> None:
    q, k, v = (torch.randn(2 * 5, 8) for _ in range(3))
    mask = torch.zeros(2, 1, 1, 5)
    mask[1, ..., 3:] = torch.finfo(torch.float32).min
    split = [t.reshape(2, 5, 4, 2).transpose(1, 2) for t in (q, k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(*split, attn_mask=mask)
    torch.testing.assert_close(attention(q, k, v, mask, heads=4), expected.transpose(1, 2).reshape(10, 8))


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu"])
def test_activations_equal_those_of_transformers(name: str) -> None:
    from transformers.activations import ACT2FN  # noqa: PLC0415 - costly, and for this test only

    x = torch.linspace(-4, 4, 50)
    torch.testing.assert_close(activation(name)(x), ACT2FN[name](x))


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(PackError, match="mish"):
        activation("mish")
