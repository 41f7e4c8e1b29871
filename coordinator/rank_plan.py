"""How many ranks are to live after each round, and what share of votes keeps one: as set, or as the rounds show."""

from __future__ import annotations

from coordinator import automatic, schedule
from coordinator.config import RankSettings
from coordinator.fleet_model import FleetModel, Rules
from edge_agent.wire.quantise import Scheme
from edge_agent.wire.ranks import Mask


class RankPlan:
    """The plan of `settings` for so many `rounds`; `start` are the ranks that there are before the first.

    Raises:
        ConfigError: the schedule's phases do not fit into the rounds.
    """

    def __init__(self, settings: RankSettings, rounds: int, start: Mask) -> None:
        self._settings = settings
        self._modules = int(start.any(axis=1).sum())
        self._schedule = _schedule(settings, rounds, int(start.sum()), self._modules)

    def rules(self, model: FleetModel, number: int, scheme: Scheme) -> Rules:
        """How round `number` closes, which starts from `model`; what is broadcast after it is in `scheme`."""
        living = int(model.state.mask.sum())
        budget, threshold = self._budget_ranks(model, living, number), self._settings.threshold
        return Rules(budget, automatic.threshold(budget, living) if threshold == "auto" else threshold, scheme)

    def _budget_ranks(self, model: FleetModel, living: int, number: int) -> int:
        if self._schedule is None:
            return automatic.budget_ranks(model.signs, living, self._modules)
        return min(living, schedule.budget_ranks(self._schedule, number))


def _schedule(settings: RankSettings, rounds: int, initial: int, modules: int) -> schedule.Schedule | None:
    """None where the ranks follow what the rounds show."""
    if settings.target == "auto":
        return None
    return schedule.Schedule(
        rounds=rounds,
        initial=initial,
        target=max(1, round(settings.target * modules)),
        warmup=settings.warmup_rounds,
        final=settings.final_rounds,
    )
