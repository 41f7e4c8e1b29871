"""What the trainer asks of an engine, whatever computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.wire.ranks import Rows

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]


class Prefix(NamedTuple):
    """States of a batch that are known already: the input of block `block`, float32 `(batch, tokens, d_model)`.

    What it holds for padding does not matter, as long as it is finite.
    """

    block: int
    hidden: Float32


@dataclass(frozen=True)
class Batch:
    """Tokenised examples, padded on the right.

    `input_ids` and `attention_mask` (1 for a token, 0 for padding) are int32 `(batch, tokens)`; `labels` are
    int32: the classes `(batch,)`, or `(batch, tokens)` the token that follows each one, -100 where that does not count;
    absent where only logits are wanted.
    """

    input_ids: Int32
    attention_mask: Int32
    labels: Int32 | None = None
    prefix: Prefix | None = None
    """Where it is given, the blocks below its block are not computed."""


@dataclass(frozen=True)
class Gradients:
    """What one step yields.

    `loss` is the mean cross-entropy in nats over the batch, or over its next tokens that count; `correct` counts right
    predictions. `rows` holds the gradient of the loss in the shape of the rows given: of the head and of every module
    in the trained blocks; other modules are absent.
    """

    loss: float
    rows: Rows
    correct: int


class Engine(Protocol):
    """Computes with the frozen model of one pack. Holds no training state: rows in, gradients out."""

    def step(self, batch: Batch, rows: Rows, *, lowest_block: int, micro_batch: int, kept_blocks: int = 0) -> Gradients:
        """Loss and gradients of one labelled batch.

        Args:
            batch: with labels.
            rows: the living rows, `(living, width)` for every module (also where none lives) and the head.
            lowest_block: gradients are computed for modules of this block and above; the number of blocks
                itself stands for the head alone.
            micro_batch: examples that pass a block together. Bounds the memory, not the result.
            kept_blocks: how many of the uppermost blocks keep their effective weights and what their linear layers
                put out until the way back, instead of computing them again. Costs memory, not the result.

        Raises:
            EngineError: shapes, tokens or labels that do not fit the pack, or a loss that is not finite.
        """

    def logits(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """Logits `(batch, classes)`; nothing is kept for a way back.

        Raises:
            EngineError: shapes or tokens that do not fit the pack.
        """

    def pooled(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """What the head sees of each example, `(batch, d_model)`.

        Raises:
            EngineError: as `logits`.
        """

    def hidden(self, batch: Batch, rows: Rows, *, blocks: int, micro_batch: int) -> Float32:
        """What the `blocks` lowest blocks make of a batch, `(batch, tokens, d_model)`: a `Prefix` for later steps.

        Raises:
            EngineError: as `logits`.
        """

    def give_back(self) -> None:
        """Gives back the memory that is kept for the next step."""
