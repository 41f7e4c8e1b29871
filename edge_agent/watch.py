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
    """How deep and how wide the next step trains, and what it keeps."""

    micro_batch: int
    lowest_block: int
    kept_blocks: int = 0


def lower(footing: Footing, blocks: int) -> Footing | None:
    """The next smaller footing: no kept blocks, then half the micro-batch, then a block less; None at the end.

    All kept blocks go at once: they cost the step's result nothing, and a neighbour that wants memory may want more.
    """
    if footing.kept_blocks:
        return replace(footing, kept_blocks=0)
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
        file_bytes: int,
        blocks: int,
        available_bytes: Callable[[], int] = memory.available_bytes,
    ) -> None:
        """`other_bytes` count against the budget beside this process: the supervisor and the mapped working set.

        `file_bytes` are the tree's file-backed pages. A system calls them available, for it can take them back; blocks
        are kept only while it need not (see `wire.cost.plan`).
        """
        self._sampler = sampler
        self._budget_bytes = budget_bytes
        self._other_bytes = other_bytes
        self._file_bytes = file_bytes
        self._blocks = blocks
        self._available_bytes = available_bytes
        self.peak_bytes = 0
        """Highest budgeted memory so far: this process's anonymous bytes and `other_bytes`."""
        self.step_downs = 0
        """How often the footing got smaller."""

    def after_step(self, footing: Footing) -> Footing:
        """The footing of the next step. Where it is smaller, the engine is to give back what it keeps.

        Raises:
            BudgetError: the budget is exceeded at the smallest footing.
        """
        used_bytes = self._sampler.peak().anonymous_bytes + self._other_bytes
        self.peak_bytes = max(self.peak_bytes, used_bytes)
        if used_bytes > HEADROOM * self._budget_bytes:
            smaller = self._lower(footing, f"{used_bytes} of {self._budget_bytes} bytes used")
            if smaller == footing and used_bytes > self._budget_bytes:
                raise cost.too_small(self._budget_bytes, used_bytes)
            return smaller
        peak_bytes = self._sampler.peak().anonymous_bytes
        needed_bytes = (2 - HEADROOM) * peak_bytes - memory.own().anonymous_bytes
        if footing.kept_blocks:
            needed_bytes += self._file_bytes
        available_bytes = self._available_bytes()
        if available_bytes < needed_bytes:
            return self._lower(footing, f"something else left {available_bytes} bytes of this system")
        return footing

    def _lower(self, footing: Footing, why: str) -> Footing:
        """The next smaller footing if there is one; the peak is then another."""
        smaller = lower(footing, self._blocks)
        if smaller is None:
            return footing
        LOGGER.warning("%s: from %s to %s", why, footing, smaller)
        self.step_downs += 1
        return smaller

    def restart(self) -> None:
        """Forgets the peak that was answered, once the memory behind it was given back."""
        memory.give_back()
        self._sampler.restart()
