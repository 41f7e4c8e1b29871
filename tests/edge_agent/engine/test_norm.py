from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_agent.engine.norm import LayerNorm, NoNorm, Norm, RmsNorm, final_norm
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from tests.models import tiny_pack

EPS = 1e-5
GENERATOR = np.random.default_rng(0)
X, DY = (GENERATOR.standard_normal((2, 3, 8)).astype(np.float32) for _ in range(2))
GAIN, BIAS = (GENERATOR.standard_normal(8).astype(np.float32) for _ in range(2))
T_GAIN, T_BIAS = torch.tensor(GAIN), torch.tensor(BIAS)

NORMS = [
    (NoNorm(), lambda x: x),
    (RmsNorm(GAIN, EPS), lambda x: torch.nn.functional.rms_norm(x, (8,), T_GAIN, EPS)),
    (LayerNorm(GAIN, BIAS, EPS), lambda x: torch.nn.functional.layer_norm(x, (8,), T_GAIN, T_BIAS, EPS)),
]


@pytest.mark.parametrize(("norm", "expected"), NORMS, ids=["none", "rms", "layer"])
def test_norms_and_their_gradients_equal_torchs(norm: Norm, expected: object) -> None:
    leaf = torch.tensor(X, requires_grad=True)
    y = expected(leaf)  # type: ignore[operator]
    y.backward(torch.tensor(DY))
    np.testing.assert_allclose(norm.apply(X), y.detach(), atol=1e-6)
    np.testing.assert_allclose(norm.pull(X, DY), leaf.grad, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), [("bert", NoNorm), ("llama", RmsNorm), ("gpt2", LayerNorm)])
def test_a_pack_has_the_norm_of_its_family(family: str, kind: type[Norm]) -> None:
    pack_dir = tiny_pack("int8", family)
    manifest = load_manifest(pack_dir)
    assert isinstance(final_norm(manifest, WeightMap(pack_dir, manifest)), kind)
