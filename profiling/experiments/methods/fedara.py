"""FedARA as published: truncated-SVD adapters, dynamic rank allocation, rank-based module pruning.

Wu et al., arXiv 2501.14406. Everything here is the product's own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..method import Client, Model, Parts, Setup, Task, Upload
from .averaging import average, empty_model, planned, within_share
from .trials import on_trial


@dataclass(frozen=True)
class FedAra:
    """`B diag(E) A` with `E` zero at the start; ranks shrink to the schedule's budget by the clients' votes."""

    def start(self, setup: Setup) -> Model:
        """See `Method.start`."""
        return Model(empty_model(setup))

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """The most important living ranks that the client has room for."""
        return on_trial(setup, model.fleet.state, Task(within_share(model.fleet, client), self.parts(number)))

    def parts(self, number: int) -> Parts:
        """All of them."""
        return Parts()

    def budget_ranks(self, setup: Setup, model: Model, number: int) -> int | None:
        """The schedule's."""
        return planned(setup, model, number).budget_ranks

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The product's aggregation, and arbitration to the schedule's budget."""
        return average(setup, model, uploads, self.parts(number), planned(setup, model, number))
