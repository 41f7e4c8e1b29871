"""LoRA-A2: `A` and `B` learn in turn, and each client trains only the ranks that matter most to it.

Koo, Jang and Ok, "Towards Robust and Efficient Federated Low-Rank Adaptation with Heterogeneous Clients"
(arXiv 2410.22815), section 4 and algorithms 1 and 2:

- in odd rounds `B` learns, in even rounds `A` (section 4.1);
- in every round a client first trains all ranks to score them by `||dB_i A_i||` or `||B_i dA_i||` (eq. 4), takes the
  best `r_k N` over all `N` modules together (eq. 5), trains these from the round's start, and sends them (eq. 6);
- the server adds the sum of the changes, each weighted by its client's share of the examples of all clients.

`r_k` is the target rank of the settings, out of their initial rank; a device with less room has less of it. The paper
scores by one epoch of its five; here by as many steps as a round has, of which there are few. Its classifier is frozen,
and its learning rates of `A` and `B` differ; here both are as in the other methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.wire.errors import ConfigError

from ..method import Client, Model, Parts, Setup, Task, Upload
from ..views import project_model
from .averaging import LoraStart
from .padded import moved, padded_mean


@dataclass(frozen=True)
class LoraA2(LoraStart):
    """Alternating freeze and adaptive rank selection."""

    def task(self, setup: Setup, model: Model, client: Client, number: int) -> Task:
        """All ranks to be scored, of which the client trains and sends what its budget allows."""
        keep = rank_budget(setup, client)
        return Task(model.fleet.state.mask, self.parts(number), importance="energy", keep=keep)

    def parts(self, number: int) -> Parts:
        """`B` in odd rounds, `A` in even ones."""
        return Parts(a=number % 2 == 0, e=False, b=number % 2 == 1)

    def budget_ranks(self, setup: Setup, model: Model, number: int) -> int | None:
        """All that live."""
        return None

    def close(self, setup: Setup, model: Model, uploads: Sequence[Upload], number: int) -> Model:
        """The sum of the weighted changes of the side that learned."""
        parts = self.parts(number)
        return moved(setup, model, padded_mean(project_model(model.fleet, parts), uploads), parts)


def rank_budget(setup: Setup, client: Client) -> int:
    """Ranks that a client trains and sends in a round, over all modules together; at least one.

    Raises:
        ConfigError: the settings leave the target to the product.
    """
    modules, target = int(setup.alive.any(axis=1).sum()), setup.options.ranks.target
    if target == "auto":
        raise ConfigError("ranks.target of LoRA-A2 must be a number of ranks, got 'auto': name one")
    return max(1, math.floor(client.rank_share * target * modules))
