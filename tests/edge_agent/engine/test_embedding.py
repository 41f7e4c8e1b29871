from __future__ import annotations

import numpy as np
import torch

from edge_agent.engine.embedding import embed, layer_norm
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from tests.models import tiny_pack


def test_layer_norm_equals_torchs() -> None:
    generator = np.random.default_rng(0)
    x, gain, bias = (generator.standard_normal(shape).astype(np.float32) for shape in ((2, 3, 8), 8, 8))
    expected = torch.nn.functional.layer_norm(*map(torch.tensor, (x,)), (8,), torch.tensor(gain), torch.tensor(bias))
    np.testing.assert_allclose(layer_norm(x, gain, bias, 1e-5), expected.numpy(), atol=1e-6)


def test_micro_batch_does_not_change_the_embeddings() -> None:
    manifest = load_manifest(tiny_pack())
    weights = WeightMap(tiny_pack(), manifest)
    ids = np.arange(15, dtype=np.int32).reshape(5, 3)
    whole = embed(weights, manifest, ids, micro_batch=5)
    assert whole.shape == (5, 3, manifest.d_model)
    np.testing.assert_array_equal(embed(weights, manifest, ids, micro_batch=2), whole)
