"""What a soak has shown: the laws, what it went through, and whether memory or rounds grew with their number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import median

import msgspec

from profiling.experiments.progress import duration

from .faults import Fault, Faults
from .host import Used
from .ledger import Ledger
from .settings import Settings

DRIFT_LIMIT_PERCENT = 5.0
"""How much more memory the coordinator may use at the end than after its warm-up."""
_TENTHS = 10


class Stretch(msgspec.Struct, frozen=True):
    """Two tenths of the rounds compared by their medians."""

    early: float
    late: float

    @property
    def percent(self) -> float:
        """How much more the late one is."""
        return 100 * (self.late / self.early - 1) if self.early else 0.0


class Outcome(msgspec.Struct, frozen=True):
    """Everything that is told of a soak."""

    devices: int
    rounds: int
    seed: int
    violations: list[str]
    closed: int
    updates: int
    acknowledgements: int
    examples: int
    digests_compared: int
    averages_compared: int
    largest_error: float
    coordinator_lives: int
    devices_without_final: int
    faults: dict[str, int]
    memory_bytes: Stretch | None
    """Anonymous memory of the coordinator: the last tenth of the rounds against the second. None below ten rounds."""
    last_life_bytes: Stretch | None
    """The same within the coordinator's last life, which is two fifths of the rounds long."""
    cpu_s: Stretch | None
    """Processor time of the coordinator for a round: the last tenth against the second."""
    wall_s: Stretch | None
    """Time for a round, devices and all: likewise."""
    total_s: float
    simulated_s: float

    @property
    def held(self) -> bool:
        """Whether every law held."""
        return not self.violations


def make_outcome(
    settings: Settings,
    ledger: Ledger,
    faults: Faults,
    used: Sequence[Used],
    walls_s: Sequence[float],
    *,
    ends: tuple[float, float, int, int],
) -> Outcome:
    """The outcome; `walls_s` is when rounds closed, `ends` the seconds that all took, those simulated, how often the
    coordinator was started, and how many devices did not confirm the final model."""
    total_s, simulated_s, lives, missing = ends
    memory = [float(one.anonymous_bytes) for one in used]
    last = [float(one.anonymous_bytes) for one in used if one.round > settings.stops[1]]
    whole, late = _stretch(memory), _stretch(last)
    grown = [(what, one) for what, one in (("over all rounds", whole), ("in its last life", late)) if one is not None]
    violations = list(ledger.violations)
    for what, one in grown:
        if settings.rounds >= 100 and one.percent >= DRIFT_LIMIT_PERCENT:
            violations.append(f"the coordinator's memory grew by {one.percent:.1f} % {what}")
    return Outcome(
        settings.devices, settings.rounds, settings.seed, violations, ledger.closed, ledger.updates,
        ledger.acknowledgements, ledger.examples, ledger.digests, ledger.averages, ledger.largest_error, lives, missing,
        {fault.value: faults.counts[fault] for fault in Fault}, whole, late, _stretch([one.cpu_s for one in used]),
        _stretch([after - before for before, after in itertools.pairwise(walls_s)]), total_s, simulated_s,
    )  # fmt: skip


def _stretch(values: Sequence[float]) -> Stretch | None:
    """The second tenth of `values` and the last, by their medians."""
    tenth = len(values) // _TENTHS
    return Stretch(median(values[tenth : 2 * tenth]), median(values[-tenth:])) if tenth else None


def lines(outcome: Outcome) -> list[str]:
    """For a person."""
    told = [
        f"{outcome.devices} devices, {outcome.closed} of {outcome.rounds} rounds, seed {outcome.seed}: "
        f"{outcome.updates} updates of {outcome.examples} examples",
        f"{duration(outcome.total_s)}, in which {duration(outcome.simulated_s)} were simulated",
        f"acknowledgements {outcome.acknowledgements}, states compared {outcome.digests_compared}, averages compared "
        f"{outcome.averages_compared} (largest difference {outcome.largest_error:.1e})",
        f"the coordinator was started {outcome.coordinator_lives} times; {outcome.devices_without_final} devices did "
        "not confirm the final model",
        *(f"{count:7d}  {name}" for name, count in outcome.faults.items()),
    ]
    for name, one, unit, scale in (
        ("anonymous memory of the coordinator", outcome.memory_bytes, "MB", 1e-6),
        ("the same in its last life", outcome.last_life_bytes, "MB", 1e-6),
        ("its processor time for a round", outcome.cpu_s, "ms", 1e3),
        ("time for a round, devices and all", outcome.wall_s, "ms", 1e3),
    ):
        if one is not None:
            told.append(
                f"{name}: {one.early * scale:.2f} {unit} in the second tenth of the rounds, {one.late * scale:.2f} "
                f"{unit} in the last ({one.percent:+.1f} %)"
            )
    verdict = ["every law held"] if outcome.held else [f"VIOLATION: {one}" for one in outcome.violations]
    return told + verdict
