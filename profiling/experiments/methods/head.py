"""The head alone, over the pretrained model as it is: the floor under all methods that adapt the model.

Linear probing (Alain and Bengio, arXiv 1610.01644), averaged over the clients as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..method import Model, Setup, Upload
from .averaging import Averaging, empty_model
from .factors import rebased


@dataclass(frozen=True)
class HeadAlone(Averaging):
    """Federated averaging of the head; no rank lives, so none is trained or sent."""

    def start(self, setup: Setup) -> Model:
        """The product's start without ranks."""
        return Model(empty_model(replace(setup, alive=np.zeros_like(setup.alive))))

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The mean of the heads; there are no ranks to vote on."""
        return rebased(setup, model, uploads, model.fleet.state.rows, model.fleet.residual)
