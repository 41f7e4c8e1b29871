"""Families of models that a pack can be built from: one module each, and the table that finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from edge_agent.wire.errors import PackError

from . import bert, distilbert, gpt2, llama, mpnet, roberta
from .parts import Parts

FAMILIES: dict[str, Callable[[Any, Mapping[str, Tensor]], Parts]] = {
    "bert": bert.parts,
    "distilbert": distilbert.parts,
    "gpt2": gpt2.parts,
    "llama": llama.parts,
    "mpnet": mpnet.parts,
    "roberta": roberta.parts,
}
"""By the `model_type` of their configuration."""

DECODERS = frozenset({"gpt2", "llama"})
"""Families that tell the next token, whose files may hold a layer for that."""


def take_apart(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """The parts of a model from its transformers configuration and its state dict.

    Raises:
        PackError: a family, or a variant of one, that is not supported.
    """
    family = FAMILIES.get(config.model_type)
    if family is None:
        supported = ", ".join(sorted(FAMILIES))
        raise PackError(f"models of type {config.model_type!r} are not supported: use one of type {supported}")
    return family(config, state)
