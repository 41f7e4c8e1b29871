"""The model to measure: a folder, one that can be fetched, or a known shape with random weights."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from deploy.fetch.catalogue import CATALOGUE, find
from deploy.fetch.fetch import fetch
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import TOKENIZER

from .measure import Say

BERT_BASE_SHAPE = "bert-base-shape"
_TOKENIZER_OF = "minilm-l6"  # of BERT's vocabulary; the benchmark's tokens are random


def model_folder(name: str, cache: Path, say: Say) -> Path:
    """The folder of the model `name`, in Hugging Face layout; made or fetched in `cache` if need be.

    Raises:
        ConfigError: no such folder, and nothing that can be fetched is called so.
        FetchError: it cannot be fetched.
    """
    if name == BERT_BASE_SHAPE:
        return _bert_base_shape(cache, say)
    if name in CATALOGUE:
        return fetch(find(name), cache, say)
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ConfigError(
            f"expected a model folder with config.json, {BERT_BASE_SHAPE!r} or one of {', '.join(CATALOGUE)}, "
            f"got {name!r}"
        )
    return folder


def _bert_base_shape(cache: Path, say: Say) -> Path:
    """BERT-base with random weights: 12 blocks of width 768 (arXiv 1810.04805)."""
    folder = cache / BERT_BASE_SHAPE
    if folder.is_dir():
        return folder
    tokenizer = fetch(find(_TOKENIZER_OF), cache, say) / TOKENIZER
    say(f"making {folder}")
    import torch  # noqa: PLC0415 (seconds, and not needed for other models)
    import transformers  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix=f".{BERT_BASE_SHAPE}-", dir=cache) as work:
        made = Path(work) / BERT_BASE_SHAPE
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig()).save_pretrained(made)
        shutil.copyfile(tokenizer, made / TOKENIZER)
        made.rename(folder)
    return folder
