from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers

from deploy.packs.architectures import DECODERS
from deploy.packs.source import read_source, source_sha256
from edge_agent.wire.errors import PackError
from tests.models import tiny_model


def write_pooling(model_dir: Path, **modes: bool) -> None:
    (model_dir / "1_Pooling").mkdir()
    settings = {"word_embedding_dimension": 32, **{f"pooling_mode_{mode}": on for mode, on in modes.items()}}
    (model_dir / "1_Pooling" / "config.json").write_text(json.dumps(settings))


def test_a_sentence_encoder_is_pooled_by_the_mean(tmp_path: Path) -> None:
    assert read_source(tiny_model(tmp_path)).pooling == "mean"


def test_files_of_other_models_do_not_say_how_to_pool(tmp_path: Path) -> None:
    assert read_source(tiny_model(tmp_path, sentence=False)).pooling is None


@pytest.mark.parametrize(("mode", "pooling"), [("mean_tokens", "mean"), ("cls_token", "cls"), ("lasttoken", "last")])
def test_a_sentence_encoders_own_pooling_decides(tmp_path: Path, mode: str, pooling: str) -> None:
    model_dir = tiny_model(tmp_path)
    write_pooling(model_dir, **{"mean_tokens": False, "cls_token": False, mode: True})
    assert read_source(model_dir).pooling == pooling


@pytest.mark.parametrize("modes", [{"max_tokens": True}, {"mean_tokens": True, "cls_token": True}, {}], ids=str)
def test_other_poolings_are_refused(tmp_path: Path, modes: dict[str, Any]) -> None:
    model_dir = tiny_model(tmp_path)
    write_pooling(model_dir, **modes)
    with pytest.raises(PackError, match="pooling"):
        read_source(model_dir)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (tiny_model(tmp_path) / name).unlink()
    with pytest.raises(PackError, match=name):
        read_source(tmp_path)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tiny_model(tmp_path) / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(PackError, match="cannot be loaded"):
        read_source(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(DECODERS))
def test_a_decoders_own_output_layer_is_kept(tmp_path: Path, family: str, tied: bool) -> None:
    state = read_source(tiny_model(tmp_path, family, tie_word_embeddings=tied)).state
    assert ("lm_head.weight" in state) != tied
    assert not any(name.startswith(("model.", "transformer.")) for name in state)


def test_an_output_layer_that_the_files_lack_is_not_made_up(tmp_path: Path) -> None:
    source = read_source(tiny_model(tmp_path, "llama", tie_word_embeddings=False))
    transformers.LlamaModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert read_source(tmp_path).state.keys() == source.state.keys() - {"lm_head.weight"}


@pytest.mark.parametrize("names", [["a.gguf", "b.gguf"], []], ids=["two", "none"])
def test_a_folder_of_another_kind_is_refused(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(PackError, match=r"nor one \.gguf file"):
        read_source(tmp_path)


def test_a_damaged_gguf_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"\0" * 100)
    with pytest.raises(PackError, match="cannot be loaded"):
        read_source(tmp_path)


def test_the_digest_follows_every_file_and_the_weights_type(tmp_path: Path) -> None:
    model_dir = tiny_model(tmp_path)
    digests = [source_sha256(model_dir, "int8"), source_sha256(model_dir, "fp16")]
    (model_dir / "tokenizer.json").write_text("{}")
    digests.append(source_sha256(model_dir, "int8"))
    assert len(set(digests)) == 3
    assert source_sha256(model_dir, "int8") == digests[-1]
