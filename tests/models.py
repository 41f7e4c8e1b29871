"""Tiny models with random weights, for tests that need a model and not what it knows."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from deploy.packs.build import build_pack

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = tuple(f"word{index}" for index in range(60))
BLOCKS = 3
D_MODEL = 32


def tiny_model(model_dir: Path, *, vocabulary: Iterable[str] = WORDS, sentence: bool = True, **config: Any) -> Path:
    """A BERT of 3 blocks, 32 wide, as a folder in Hugging Face layout: config.json, model.safetensors, tokenizer.json.

    `vocabulary` are whole words, lower case. `sentence` marks it as a sentence encoder, which is pooled by the mean;
    `config` overrides fields of `transformers.BertConfig`.
    """
    words = [*SPECIAL, *vocabulary]
    shape = {"hidden_size": D_MODEL, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "intermediate_size": 48}
    settings = {"vocab_size": len(words), "max_position_embeddings": 64, **shape, **config}
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**settings))
    _randomise(model)
    model.save_pretrained(model_dir)
    _tokenizer(words).save(str(model_dir / "tokenizer.json"))
    if sentence:
        (model_dir / "modules.json").write_text("[]")
    return model_dir


@functools.cache
def tiny_pack(weights: str = "int8") -> Path:
    """The pack of `tiny_model`, built once a process and deleted at its end: to be read, not written."""
    folder = Path(tempfile.mkdtemp(prefix="rankfleet-tiny-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    build_pack(tiny_model(folder / "model"), folder / "pack", weights=weights)
    return folder / "pack"


def tiny_source(pack_dir: Path) -> Path:
    """The model folder that `tiny_pack` built `pack_dir` from."""
    return pack_dir.parent / "model"


def _randomise(model: torch.nn.Module) -> None:
    """Every parameter random, biases and norms too: zeros and ones would hide errors."""
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.2)


def _tokenizer(words: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
