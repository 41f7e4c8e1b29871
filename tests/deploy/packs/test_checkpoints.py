"""Packs of real, published models compute what transformers computes from the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from deploy.fetch.catalogue import find
from deploy.fetch.fetch import cache_folder, fetch
from deploy.packs.build import build_pack
from deploy.packs.source import read_source
from edge_agent.engine.next_token import IGNORED, next_tokens
from edge_agent.engine.onnx_engine import BlockwiseEngine
from edge_agent.engine.protocol import Batch
from edge_agent.wire.errors import FetchError
from edge_agent.wire.pack import TOKENIZER, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows

pytestmark = pytest.mark.slow

TEXTS = (
    "Replaced the left hydraulic hose, 2 m, and topped up 15 l of oil.",
    "Engine will not start",
    "Bucket teeth worn: grease all pins, tighten bolts on the boom and check the tracks for loose links.",
)
ENCODERS = ("minilm-l6", "mpnet-base")
DECODER = "smollm2-135m"


def fetched(name: str) -> Path:
    try:
        return fetch(find(name), cache_folder(), print)
    except FetchError as error:
        pytest.skip(f"NOT TESTED: {name} cannot be fetched here: {error}")


def make_batch(pack_dir: Path) -> Batch:
    tokenizer = Tokenizer.from_file(str(pack_dir / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=load_manifest(pack_dir).pad_token_id)
    encodings = tokenizer.encode_batch(TEXTS)
    ids, mask = ([getattr(e, field) for e in encodings] for field in ("ids", "attention_mask"))
    return Batch(np.array(ids, np.int32), np.array(mask, np.int32))


def without_ranks(layout: Layout) -> Rows:
    """A head that passes on what the model pools, and nothing else."""
    rows = {module.name: np.zeros((0, module.width), np.float32) for module in layout.modules}
    return {**rows, HEAD: np.eye(layout.classes, layout.d_model + 1, dtype=np.float32)}


def pooled(pack_dir: Path, batch: Batch) -> np.ndarray:
    manifest = load_manifest(pack_dir)
    layout = module_layout(manifest, 1, classes=manifest.d_model)
    engine = BlockwiseEngine(pack_dir, layout, threads=2, scale=1)
    return engine.logits(batch, without_ranks(layout), micro_batch=2)


def hidden_states(model: Any, batch: Batch) -> torch.Tensor:
    ids, mask = (torch.tensor(array, dtype=torch.long) for array in (batch.input_ids, batch.attention_mask))
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=mask).last_hidden_state


def assert_close(got: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_sentence_encoder_gives_the_same_vectors(tmp_path: Path, name: str) -> None:
    model_dir = fetched(name)
    build_pack(model_dir, tmp_path / "pack", weights="fp32")
    batch = make_batch(tmp_path / "pack")
    hidden = hidden_states(transformers.AutoModel.from_pretrained(model_dir), batch)
    mask = torch.tensor(batch.attention_mask)[:, :, None]
    assert_close(pooled(tmp_path / "pack", batch), (hidden * mask).sum(1) / mask.sum(1))


def test_a_decoder_gives_the_same_states_and_next_tokens(tmp_path: Path) -> None:
    model_dir = fetched(DECODER)
    manifest = build_pack(model_dir, tmp_path / "pack", weights="fp32")
    batch = make_batch(tmp_path / "pack")
    source = read_source(model_dir)
    model = transformers.LlamaModel(source.config)
    model.load_state_dict(dict(source.state))
    hidden = hidden_states(model, batch)
    assert_close(pooled(tmp_path / "pack", batch), hidden[range(len(hidden)), batch.attention_mask.sum(1) - 1])
    labels = next_tokens(batch.input_ids, batch.attention_mask)
    logits, targets = hidden @ model.embed_tokens.weight.detach().T, torch.tensor(labels, dtype=torch.long)
    layout = module_layout(manifest, 1, classes=0)
    engine = BlockwiseEngine(tmp_path / "pack", layout, threads=2, scale=1)
    labelled = Batch(batch.input_ids, batch.attention_mask, labels)
    got = engine.step(labelled, without_ranks(layout), lowest_block=manifest.blocks, micro_batch=2)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
    assert got.loss == pytest.approx(expected.item(), rel=1e-4)
    assert got.correct == int((logits.argmax(-1) == targets).sum())
