"""How many ranks live after each round: AdaLoRA's cubic schedule (arXiv 2303.10512, eq. 13), by round."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.wire.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """`warmup` rounds at `initial` ranks, a cubic decay, then `final` rounds that start and end at `target`.

    Raises:
        ConfigError: if the phases do not fit into `rounds`, or the ranks do not shrink.
    """

    rounds: int
    initial: int
    target: int
    warmup: int
    final: int

    def __post_init__(self) -> None:
        if not 1 <= self.target <= self.initial:
            raise ConfigError(f"target ranks must be 1 to the initial {self.initial}, got {self.target}")
        if self.warmup < 0 or self.final < 0 or self.warmup + self.final >= self.rounds:
            raise ConfigError(
                f"warm-up ({self.warmup}) and final ({self.final}) rounds must leave at least one of "
                f"{self.rounds} rounds between them for pruning: lower them or add rounds"
            )


def budget_ranks(schedule: Schedule, round_: int) -> int:
    """Ranks that are to live after round `round_`, counted from 1.

    Integers throughout: the cubic is rounded half up, so every machine prunes alike.
    """
    pruning = schedule.rounds - schedule.warmup - schedule.final
    left = min(max(schedule.rounds - schedule.final - round_, 0), pruning)
    span = schedule.initial - schedule.target
    return schedule.target + (2 * span * left**3 + pruning**3) // (2 * pruning**3)
