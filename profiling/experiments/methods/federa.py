"""FeDeRA: adapters start from the singular value decomposition of the pretrained weights.

Yan et al., "FeDeRA: Efficient Fine-tuning of Language Models in Federated Learning Leveraging Weight Decomposition"
(arXiv 2404.18848), section IV: of `W0 = U S V^T`, `B` starts as the first columns of `U sqrt(S)` and `A` as the first
rows of `sqrt(S) V^T`; `W0 - B A` stays frozen. Federated averaging follows. All devices hold `W0`, so nobody sends the
start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..method import Client, Float32, Model, Setup, Task
from .averaging import Averaging, empty_model, with_rows
from .factors import Factors, from_rows, to_rows
from .shares import first_slots


@dataclass(frozen=True)
class FeDeRa(Averaging):
    """Federated averaging of `A` and `B` from the principal directions of `W0`."""

    def start(self, setup: Setup) -> Model:
        """See `Method.start`."""
        model, scale = empty_model(setup), setup.options.training.scale
        rows, base = dict(model.state.rows), {}
        for module, slots in setup.layout.living(setup.alive):
            if len(slots):
                principal = to_rows(principal_factors(setup.weights(module.name), len(slots), scale))
                rows[module.name] = np.zeros((setup.layout.slots, module.width), np.float32)
                rows[module.name][slots] = principal
                base[module.name] = (-scale * from_rows(module, principal).matrix).astype(np.float32)
        return Model(with_rows(model, rows, setup), base=base)

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The ranks of the largest singular values, as many of every module as the client has room for."""
        return Task(first_slots(model.fleet.state.mask, client.rank_share), self.parts(number))


def principal_factors(weight: Float32, rank: int, scale: float) -> Factors:
    """Factors with `scale * B A` the best approximation of `weight (d_out, d_in)` by `rank`, both of the same length.

    `rank` is at most the smaller side of `weight`.
    """
    left, values, right = np.linalg.svd(weight.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank] / scale)[:, None]
    return Factors(root * right[:rank], root * left.T[:rank])
