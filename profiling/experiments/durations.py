"""How long a run will take, from those that are over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from statistics import median

from .record import Result
from .settings import Run


class Durations:
    """Wall times of finished runs: those of this machine's own workers, and what older results say of theirs."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._known_s: defaultdict[Hashable, list[float]] = defaultdict(list)
        for result in results:
            self.add(result.run, result.wall_s)

    def add(self, run: Run, wall_s: float) -> None:
        """Takes note of a finished run."""
        for kind in _kinds(run):
            self._known_s[kind].append(wall_s / _trainings(run))

    def expected_s(self, run: Run) -> float | None:
        """The median of the runs that are most like `run`, by their number of trainings; None if there are none."""
        alike_s = next((self._known_s[kind] for kind in _kinds(run) if kind in self._known_s), None)
        return None if alike_s is None else median(alike_s) * _trainings(run)

    def left_s(self, pending: Iterable[Run], running: Mapping[Run, float], workers: int) -> float | None:
        """Until `pending` runs are over, and those that are `running` for so many seconds; None if that is unknown."""
        expected_s = [(self.expected_s(run), 0.0) for run in pending]
        expected_s += [(self.expected_s(run), spent_s) for run, spent_s in running.items()]
        left_s = [max(0.0, whole_s - spent_s) for whole_s, spent_s in expected_s if whole_s is not None]
        return sum(left_s) / workers if len(left_s) == len(expected_s) else None


def _kinds(run: Run) -> tuple[Hashable, ...]:
    """What a run is like, the closest first."""
    work = (run.pack_sha256, run.profile)
    return (run.method, run.dataset, *work), (run.dataset, *work), work, run.pack_sha256


def _trainings(run: Run) -> int:
    """How often a client trains."""
    return run.profile.rounds * run.profile.cohort
