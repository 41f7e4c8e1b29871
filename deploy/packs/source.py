"""A model folder in Hugging Face layout, or with one GGUF file: what a pack is built from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor

from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import FORMAT, TOKENIZER, file_sha256

from .architectures import DECODERS

Pooling = Literal["mean", "cls", "pooler", "last"]

_CONFIG = "config.json"
_POOLING_CONFIG = "1_Pooling/config.json"
_SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
_GGUF = ".gguf"
_SUFFIXES = (".json", ".safetensors", ".bin", _GGUF)
_POOLING_MODES: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "last",
}
_NEXT_TOKEN = "lm_head.weight"


@dataclass(frozen=True)
class Source:
    """A pretrained model in float32: its configuration, the tensors that its files hold, and how it is pooled.

    `state` has the names of the model without a task, and `lm_head.weight` where a decoder's is not its embedding.
    `pooling` is none where the files do not say. `tokenizer` is the JSON of the `tokenizers` library.
    """

    name: str
    config: Any
    state: Mapping[str, Tensor]
    tokenizer: bytes
    pooling: Pooling | None


def read_source(model_dir: Path) -> Source:
    """The model in `model_dir`.

    Raises:
        PackError: a file that is missing or unreadable, or a pooling that is not supported.
    """
    options = {"local_files_only": True, **_gguf(model_dir)}
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as published
    try:
        config = transformers.AutoConfig.from_pretrained(model_dir, **options)
        model, loading = _class(config.model_type).from_pretrained(
            model_dir, dtype=torch.float32, output_loading_info=True, **options
        )
        tokenizer = _tokenizer(model_dir, options)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise PackError(f"the model in {model_dir} cannot be loaded: {error}") from error
    return Source(model_dir.name, model.config, _state(model, loading["missing_keys"]), tokenizer, _pooling(model_dir))


def source_sha256(model_dir: Path, weights: str) -> str:
    """Hex digest of all that decides the bytes of a pack: the model's files, the weights' type, the builder."""
    digest = hashlib.sha256(f"{FORMAT} {torch.__version__} {weights}\n".encode())
    for path in sorted(p for p in model_dir.rglob("*") if p.suffix in _SUFFIXES):
        digest.update(f"{path.relative_to(model_dir)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _gguf(model_dir: Path) -> dict[str, str]:
    """What transformers must be told of a folder that holds a GGUF file: which one; that has configuration and
    tokenizer in it."""
    missing = [name for name in (_CONFIG, TOKENIZER) if not (model_dir / name).is_file()]
    files = sorted(model_dir.glob(f"*{_GGUF}"))
    if missing and len(files) != 1:
        raise PackError(
            f"{model_dir} is no model folder in Hugging Face layout: it has no {missing[0]}, nor one {_GGUF} file"
        )
    return {"gguf_file": files[0].name} if missing else {}


def _class(model_type: str) -> Any:
    return transformers.AutoModelForCausalLM if model_type in DECODERS else transformers.AutoModel


def _tokenizer(model_dir: Path, options: Mapping[str, Any]) -> bytes:
    if (model_dir / TOKENIZER).is_file():
        return (model_dir / TOKENIZER).read_bytes()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_dir, **options)
    return str(tokenizer.backend_tokenizer.to_str(pretty=True)).encode()


def _state(model: Any, missing: set[str]) -> dict[str, Tensor]:
    """The tensors that the files hold: what they lack, transformers fills with random numbers."""
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    held = {name: tensor for name, tensor in model.state_dict().items() if name not in missing}
    state = {name.removeprefix(prefix): tensor for name, tensor in held.items() if name.startswith(prefix)}
    if _NEXT_TOKEN in held and not model.config.tie_word_embeddings:
        state[_NEXT_TOKEN] = held[_NEXT_TOKEN]
    return state


def _pooling(model_dir: Path) -> Pooling | None:
    """A sentence encoder's own pooling, mean unless it says otherwise."""
    config = model_dir / _POOLING_CONFIG
    if config.is_file():
        return _sentence_pooling(config)
    return "mean" if any((model_dir / name).is_file() for name in _SENTENCE_FILES) else None


def _sentence_pooling(path: Path) -> Pooling:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read as JSON: {error}") from error
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise PackError(f"{path} asks for pooling {modes}: expected one of {', '.join(_POOLING_MODES)}")
    return _POOLING_MODES[modes[0]]
