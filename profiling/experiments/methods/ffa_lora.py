"""FFA-LoRA: `A` stays frozen at its random start, and only `B` is trained and sent.

Sun et al., "Improving LoRA in Privacy-preserving Federated Learning" (arXiv 2403.12313). With one `A` for
all, the mean of the products `B_k A` is the product of the mean `B` with `A`: averaging is exact.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..method import Parts
from .averaging import Averaging


@dataclass(frozen=True)
class FfaLora(Averaging):
    """Federated averaging of `B`; every device makes `A` from the seed, so it never travels."""

    def parts(self, number: int) -> Parts:
        """`B` alone."""
        return Parts(a=False, e=False)
