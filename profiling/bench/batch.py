"""The random batch that every engine trains on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .spec import CLASSES, Work

Int32 = npt.NDArray[np.int32]


def random_batch(work: Work, vocabulary: int) -> tuple[Int32, Int32]:
    """Token ids `(batch, tokens)` below `vocabulary`, and labels `(batch,)`; the same for the same seed."""
    generator = np.random.default_rng(work.seed)
    ids = generator.integers(0, vocabulary, (work.batch, work.tokens), dtype=np.int32)
    return ids, generator.integers(0, CLASSES, work.batch, dtype=np.int32)
