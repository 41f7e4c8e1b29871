"""Watches the memory of a round while it trains, and steps down before the budget is exceeded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge_agent import memory
from edge_agent.wire import cost

LOGGER = logging.getLogger("rankfleet.trainer")
HEADROOM = 0.97
"""Share of the budget at which to step down: one more step must not cross the rest."""


@dataclass(frozen=True)
class Footing:
    """How deep and how wide the next step trains."""

    micro_batch: int
    lowest_block: int


def lower(footing: Footing, blocks: int) -> Footing | None:
    """The next smaller footing: half the micro-batch, then a block less; None at the end of the stairs."""
    if footing.micro_batch > 1:
        return replace(footing, micro_batch=footing.micro_batch // 2)
    if footing.lowest_block < blocks - 1:
        return replace(footing, lowest_block=footing.lowest_block + 1)
    return None


class Watch:
    """Looks after every step: at this process tree against its budget, and at what the system has left."""

    def __init__(
        self,
        sampler: memory.PeakSampler,
        *,
        budget_bytes: int,
        other_bytes: int,
        blocks: int,
        available_bytes: Callable[[], int] = memory.available_bytes,
    ) -> None:
        """`other_bytes` count against the budget beside this process: the supervisor and the mapped working set."""
        self._sampler = sampler
        self._budget_bytes = budget_bytes
        self._other_bytes = other_bytes
        self._blocks = blocks
        self._available_bytes = available_bytes
        self.peak_bytes = 0
        """Highest budgeted memory so far: this process's anonymous bytes and `other_bytes`."""

    def after_step(self, footing: Footing) -> Footing:
        """The footing of the next step.

        Raises:
            BudgetError: the budget is exceeded at the smallest footing.
        """
        used_bytes = self._sampler.peak().anonymous_bytes + self._other_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        if used_bytes > HEADROOM * self._budget_bytes:
            return self._step_down(footing, used_bytes)
        growth_bytes = self._sampler.peak().anonymous_bytes - memory.own().anonymous_bytes
        if self._available_bytes() < growth_bytes:
            return self._make_room(footing)
        return footing

    def _step_down(self, footing: Footing, used_bytes: int) -> Footing:
        smaller = lower(footing, self._blocks)
        if smaller is not None:
            LOGGER.warning("%d of %d bytes used: from %s to %s", used_bytes, self._budget_bytes, footing, smaller)
            memory.give_back()
            self._sampler.restart()
            return smaller
        if used_bytes > self._budget_bytes:
            raise cost.too_small(self._budget_bytes, used_bytes)
        return footing

    def _make_room(self, footing: Footing) -> Footing:
        """Something else on this board took what the next step needs: take less, if that is possible."""
        smaller = lower(footing, self._blocks)
        if smaller is None:
            return footing
        LOGGER.warning("the system has little memory left: from %s to %s", footing, smaller)
        memory.give_back()
        self._sampler.restart()
        return smaller
