from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from edge_agent.engine.embedding import embed
from edge_agent.engine.weights import WeightMap
from edge_agent.wire.pack import load_manifest
from tests.models import FAMILIES, tiny_pack, tiny_source


def test_micro_batch_does_not_change_the_embeddings() -> None:
    manifest = load_manifest(tiny_pack())
    weights = WeightMap(tiny_pack(), manifest)
    ids = np.arange(15, dtype=np.int32).reshape(5, 3)
    whole = embed(weights, manifest, ids, micro_batch=5)
    assert whole.shape == (5, 3, manifest.d_model)
    np.testing.assert_array_equal(embed(weights, manifest, ids, micro_batch=2), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_equal_transformers(family: str) -> None:
    pack_dir = tiny_pack("fp32", family)
    manifest = load_manifest(pack_dir)
    ids = np.arange(4, 19, dtype=np.int32).reshape(5, 3)
    model = transformers.AutoModel.from_pretrained(tiny_source(pack_dir)).eval()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor(ids), output_hidden_states=True).hidden_states[0]
    np.testing.assert_allclose(embed(WeightMap(pack_dir, manifest), manifest, ids, micro_batch=2), expected, atol=1e-5)
