"""The model to measure: a folder, one that can be fetched, or a known shape with random weights; and its packs.

What needs torch runs in a process that ends: libraries that this one had mapped would be charged to it, not to the
engines that it measures.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from deploy.fetch.catalogue import CATALOGUE, find
from deploy.fetch.fetch import fetch
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.pack import TOKENIZER

from .measure import Say
from .modes import WeightsType

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
    with tempfile.TemporaryDirectory(prefix=f".{BERT_BASE_SHAPE}-", dir=cache) as work:
        made = Path(work) / BERT_BASE_SHAPE
        _elsewhere(_save_bert_base, made)
        shutil.copyfile(tokenizer, made / TOKENIZER)
        made.rename(folder)
    return folder


def build_packs(folder: Path, types: Sequence[WeightsType], into: Path, say: Say) -> dict[WeightsType, Path]:
    """The model's packs in the folder `into`, by the type of their weights. Always anew: those of this version.

    Raises:
        PackError: a model that cannot be read or is not supported.
    """
    packs = {weights: into / weights for weights in types}
    for weights, pack_dir in packs.items():
        say(f"building the pack with {weights} weights")
        _elsewhere(_build_pack, folder, pack_dir, weights)
    return packs


def _elsewhere(work: Callable[..., None], *arguments: object) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(work, *arguments).result()


def _save_bert_base(folder: Path) -> None:
    import torch  # noqa: PLC0415 (see above)
    import transformers  # noqa: PLC0415

    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig()).save_pretrained(folder)


def _build_pack(folder: Path, pack_dir: Path, weights: WeightsType) -> None:
    from deploy.packs.build import build_pack  # noqa: PLC0415

    build_pack(folder, pack_dir, weights=weights)
