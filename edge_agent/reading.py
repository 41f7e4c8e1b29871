"""Examples on their way through the model without training: to be counted right or wrong, or looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from edge_agent.engine.protocol import Batch
from edge_agent.examples import Tokens, by_length, make_batch
from edge_agent.tokenise import Tokeniser


class KnownStates(Protocol):
    """Knows what the lowest blocks make of the examples, such as `prefix.FrozenPrefix`."""

    def of(self, batch: Batch, chosen: Sequence[int]) -> Batch:
        """`batch`, made of the examples at the places `chosen`, with its prefix."""


@dataclass(frozen=True)
class Reading:
    """All of `tokens`, in batches as in training, so it takes no more memory than that."""

    tokens: Tokens
    tokeniser: Tokeniser
    batch_size: int
    micro_batch: int
    prefix: KnownStates | None = None

    def batches(self) -> Iterator[Batch]:
        """Every example once, the longest first."""
        for chosen in by_length(self.tokens, self.batch_size):
            batch = make_batch(self.tokens, chosen, self.tokeniser)
            yield batch if self.prefix is None else self.prefix.of(batch, chosen)
