"""A model folder in Hugging Face layout: what a pack is built from."""

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

Pooling = Literal["mean", "cls", "pooler"]

_POOLING_CONFIG = "1_Pooling/config.json"
_SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json")
_SUFFIXES = (".json", ".safetensors", ".bin")
_POOLING_MODES: dict[str, Pooling] = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True)
class Source:
    """A pretrained model in float32: its configuration, the tensors that its files hold, and how it is pooled."""

    name: str
    config: Any
    state: Mapping[str, Tensor]
    pooling: Pooling


def read_source(model_dir: Path) -> Source:
    """The model in `model_dir`.

    Raises:
        PackError: a file that is missing or unreadable, or a pooling that is not supported.
    """
    for name in ("config.json", TOKENIZER):
        if not (model_dir / name).is_file():
            raise PackError(f"{model_dir} is no model folder in Hugging Face layout: it has no {name}")
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as published
    try:
        model, loading = transformers.AutoModel.from_pretrained(
            model_dir, dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise PackError(f"the model in {model_dir} cannot be loaded: {error}") from error
    # What the files lack, transformers fills with random numbers.
    state = {name: t for name, t in model.state_dict().items() if name not in loading["missing_keys"]}
    return Source(model_dir.name, model.config, state, _pooling(model_dir, state))


def source_sha256(model_dir: Path, weights: str) -> str:
    """Hex digest of all that decides the bytes of a pack: the model's files, the weights' type, the builder."""
    digest = hashlib.sha256(f"{FORMAT} {torch.__version__} {weights}\n".encode())
    for path in sorted(p for p in model_dir.rglob("*") if p.suffix in _SUFFIXES):
        digest.update(f"{path.relative_to(model_dir)} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _pooling(model_dir: Path, state: Mapping[str, Tensor]) -> Pooling:
    """A sentence encoder's own pooling, mean unless it says otherwise; other encoders by their pooler, if any."""
    config = model_dir / _POOLING_CONFIG
    if config.is_file():
        return _sentence_pooling(config)
    sentence = any((model_dir / name).is_file() for name in _SENTENCE_FILES)
    return "pooler" if not sentence and any(name.startswith("pooler.") for name in state) else "mean"


def _sentence_pooling(path: Path) -> Pooling:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PackError(f"{path} cannot be read as JSON: {error}") from error
    modes = [key for key, value in settings.items() if key.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in _POOLING_MODES:
        raise PackError(f"{path} asks for pooling {modes}: expected one of {', '.join(_POOLING_MODES)}")
    return _POOLING_MODES[modes[0]]
