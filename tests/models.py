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
TOKENS = 64
_COMMON = {"hidden_size": D_MODEL, "num_hidden_layers": BLOCKS, "num_attention_heads": 4, "intermediate_size": 48}
_DISTILBERT = {"dim": D_MODEL, "n_layers": BLOCKS, "n_heads": 4, "hidden_dim": 48}
_TEXT = {"bos_token_id": 2, "eos_token_id": 3}
_GPT2 = {"n_embd": D_MODEL, "n_layer": BLOCKS, "n_head": 4, "n_inner": 48, "n_positions": TOKENS, **_TEXT}
_LLAMA = {"num_key_value_heads": 2, "tie_word_embeddings": True}
FAMILIES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "bert": (transformers.BertModel, {**_COMMON, "max_position_embeddings": TOKENS}),
    "distilbert": (transformers.DistilBertModel, {**_DISTILBERT, "max_position_embeddings": TOKENS}),
    "roberta": (transformers.RobertaModel, {**_COMMON, "max_position_embeddings": TOKENS + 2, "pad_token_id": 1}),
    "mpnet": (transformers.MPNetModel, {**_COMMON, "max_position_embeddings": TOKENS + 2}),
    "llama": (transformers.LlamaForCausalLM, {**_COMMON, **_LLAMA, "max_position_embeddings": TOKENS}),
    "gpt2": (transformers.GPT2LMHeadModel, _GPT2),
}
"""The class of each family and the settings that make it tiny."""


def tiny_model(
    model_dir: Path, family: str = "bert", *, vocabulary: Iterable[str] = WORDS, sentence: bool = True, **config: Any
) -> Path:
    """A model of 3 blocks, 32 wide, as a folder in Hugging Face layout: config.json, model.safetensors, tokenizer.json.

    `vocabulary` are whole words, lower case. `sentence` marks it as a sentence encoder, which is pooled by the mean;
    `config` overrides settings of the family's configuration.
    """
    words = [*SPECIAL, *vocabulary]
    of_family, settings = FAMILIES[family]
    torch.manual_seed(0)
    model = of_family(of_family.config_class(**{"vocab_size": len(words), **settings, **config}))
    _randomise(model)
    model.save_pretrained(model_dir)
    _tokenizer(words).save(str(model_dir / "tokenizer.json"))
    if sentence:
        (model_dir / "modules.json").write_text("[]")
    return model_dir


@functools.cache
def tiny_pack(weights: str = "int8", family: str = "bert", *, sentence: bool = True) -> Path:
    """The pack of `tiny_model`: to be read, not written.

    It takes seconds to build, so all test processes of this user share it, until the code that builds it changes.
    """
    return _shared_pack(family if sentence else f"{family}-bare", weights, family, sentence=sentence)


@functools.cache
def wide_pack() -> Path:
    """As `tiny_pack`, 384 wide, of 3.8 MB: pack, updates and deltas are more than a packet of 128 KB."""
    return _shared_pack("wide", "int8", "bert", hidden_size=384, intermediate_size=768)


def _shared_pack(name: str, weights: str, family: str, *, sentence: bool = True, **config: Any) -> Path:
    root = Path(tempfile.gettempdir()) / f"rankfleet-tiny-{getpass.getuser()}-{_builder_sha256()[:16]}"
    root.mkdir(mode=0o700, exist_ok=True)
    folder = root / name
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "model").exists():
            tiny_model(folder / "new", family, sentence=sentence, **config).rename(folder / "model")
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
        norm = parameter.dim() == 1 and name.endswith(".weight")
        torch.nn.init.normal_(parameter, mean=float(norm), std=0.2)


def _tokenizer(words: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer
