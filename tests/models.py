"""Tiny models with random weights, for tests that need a model and not what it knows."""

from __future__ import annotations

import fcntl
import functools
import getpass
import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from deploy.packs import build
from deploy.packs.build import build_pack
from edge_agent.wire import pack

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
    """The pack of `tiny_model`: to be read, not written.

    It takes half a minute to build, so all test processes of this user share it, until the code that builds it changes.
    """
    folder = Path(tempfile.gettempdir()) / f"rankfleet-tiny-{getpass.getuser()}-{_builder_sha256()[:16]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "model").exists():
            tiny_model(folder / "new").rename(folder / "model")
        build_pack(folder / "model", folder / weights, weights=weights)
    return folder / weights


def _builder_sha256() -> str:
    sources = [Path(__file__), Path(pack.__file__), *sorted(Path(build.__file__).parent.rglob("*.py"))]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


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
