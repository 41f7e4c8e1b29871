"""RoBERTa (arXiv 1907.11692): the blocks of BERT; positions count from behind the padding token's index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from . import bert
from .parts import Parts


def parts(config: Any, state: Mapping[str, Tensor]) -> Parts:
    """See `take_apart`."""
    return bert.parts(config, state, first_position=config.pad_token_id + 1)
