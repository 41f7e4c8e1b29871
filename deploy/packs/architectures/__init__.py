"""Families of models that a pack can be built from: one module each, and the table that finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from edge_agent.wire.errors import PackError

from . import bert
from .parts import Parts

_FAMILIES: dict[str, Callable[[Any, Mapping[str, Tensor]], Parts]] = {
    "bert": bert.parts,
}


def take_apart(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """The parts of a model from its transformers configuration and its state dict.

    Raises:
        PackError: a family, or a variant of one, that is not supported.
    """
    family = _FAMILIES.get(config.model_type)
    if family is None:
        supported = ", ".join(sorted(_FAMILIES))
        raise PackError(f"models of type {config.model_type!r} are not supported: use one of type {supported}")
    return family(config, state)
