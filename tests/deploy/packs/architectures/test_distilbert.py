from __future__ import annotations

from deploy.packs.architectures import distilbert
from tests.deploy.packs.architectures.families import tiny


def test_it_has_six_modules_and_neither_pooler_nor_token_types() -> None:
    config, state = tiny("distilbert")
    parts = distilbert.parts(config, state)
    linears = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "ffn.lin1", "ffn.lin2"]
    assert list(parts.modules) == linears
    assert parts.pooler == {}
    assert (parts.embeddings["position"] == state["embeddings.position_embeddings.weight"]).all()
