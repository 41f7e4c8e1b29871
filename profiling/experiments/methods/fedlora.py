"""FedLoRA, also FedIT: federated averaging of `A` and `B` by themselves.

Zhang et al., "Towards Building the Federated GPT: Federated Instruction Tuning" (arXiv 2305.05644), algorithm 1. The
mean of the factors is not the mean of their products; that this is so is what other methods set out from.
"""

from __future__ import annotations

from dataclasses import dataclass

from .averaging import Averaging


@dataclass(frozen=True)
class FedLora(Averaging):
    """All ranks of all clients, both factors, in every round."""
