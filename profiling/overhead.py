"""What recording a round costs: the same round with and without it, in turn.

Each round is trained by a fresh trainer process on the device's own data, while this process does what the supervisor
does: it polls, looks at the board when it is time, and writes what the trainer tells. Two rounds that follow each other
are a pair; which of them records is drawn at random, so that nothing else on the machine can keep step with it.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from edge_agent import config, jobs
from edge_agent.predict import DATABASE
from edge_agent.recorder import Recorder
from edge_agent.round_log import PhaseEntry, read_rounds
from edge_agent.wire.errors import RankfleetError
from profiling.bench.statistics import median
from profiling.one_round import Joined, find_joined, first_plan, make_terms, run_job
from profiling.rounds.compare import interval

SEED = 0
LIMIT = 0.02
"""Share of a round that recording may cost."""


class Cost(msgspec.Struct, frozen=True):
    """One round. `cpu_s` is of both processes; `recording_cpu_s` what of it the record says that it took itself."""

    wall_s: float
    cpu_s: float
    recording_cpu_s: float = 0.0


class Pair(msgspec.Struct, frozen=True):
    """The same round twice, one after the other."""

    without: Cost
    recorded: Cost


class Overhead(msgspec.Struct, frozen=True):
    """One figure: medians without and with recording, and that of the pairs' differences, with its 95 % interval by the
    bootstrap (see `rounds.compare`)."""

    figure: str
    without: float
    recorded: float
    difference: float
    low: float
    high: float

    @property
    def share(self) -> float:
        """The difference, of the round without."""
        return self.difference / self.without


def measure_pairs(agent_toml: Path, pairs: int) -> Iterator[Pair]:
    """Pairs of rounds of the agent configured in `agent_toml`, which must have joined a fleet before.

    Raises:
        ConfigError: the configuration cannot be used, or the agent has joined no fleet yet.
        RankfleetError: a round failed.
    """
    settings = config.load(agent_toml)
    joined = find_joined(settings)
    _round(settings, joined, recorded=False)  # files are read into memory once
    drawn = random.Random(SEED)
    for _ in range(pairs):
        if drawn.random() < 0.5:
            recorded = _round(settings, joined, recorded=True)
            yield Pair(_round(settings, joined, recorded=False), recorded)
        else:
            yield Pair(_round(settings, joined, recorded=False), _round(settings, joined, recorded=True))


def summarise(pairs: list[Pair]) -> list[Overhead]:
    """Wall and CPU time of some pairs."""
    figures: dict[str, Callable[[Cost], float]] = {"wall s": lambda c: c.wall_s, "CPU s": lambda c: c.cpu_s}
    return [_overhead(name, [(of(pair.without), of(pair.recorded)) for pair in pairs]) for name, of in figures.items()]


def own_share(pairs: list[Pair]) -> float:
    """The median share of a round's CPU time that recording it took, as the record itself has it."""
    return median([pair.recorded.recording_cpu_s / pair.recorded.cpu_s for pair in pairs])


def _overhead(name: str, values: list[tuple[float, float]]) -> Overhead:
    differences = [recorded - without for without, recorded in values]
    without, recorded = (median(one) for one in zip(*values, strict=True))
    return Overhead(name, without, recorded, median(differences), *interval([0.0], differences))


def _round(settings: config.AgentConfig, joined: Joined, *, recorded: bool) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        terms = make_terms(settings, joined, joined.known.budget_bytes, Path(folder) / DATABASE)
        job = jobs.TrainJob(msgspec.structs.replace(terms, records=recorded), first_plan(terms), (), joined.known)
        here = msgspec.structs.replace(settings, state_dir=Path(folder))
        recorder = Recorder(here, terms.budget_bytes, lambda: None) if recorded else None
        start_s, start_cpu_s = time.monotonic(), _cpu_s()
        if recorder is not None:
            recorder.enter("train", 1, joined.welcome.run, job=True)
        result = run_job(job, lambda line: _hear(recorder, line))
        if recorder is not None:
            recorder.enter(None, 0, None, job=False)
        wall_s, cpu_s = time.monotonic() - start_s, _cpu_s() - start_cpu_s
        own_s = _recording_cpu_s(Path(folder)) if recorded else 0.0
    if isinstance(result, jobs.Failure):
        raise RankfleetError(result.reason)
    return Cost(wall_s, cpu_s, own_s)


def _recording_cpu_s(folder: Path) -> float:
    return sum(entry.recording_cpu_s for entry in read_rounds(folder) if isinstance(entry, PhaseEntry))


def _hear(recorder: Recorder | None, line: jobs.AnyLine | None) -> None:
    if recorder is None:
        return
    recorder.tick()
    if isinstance(line, jobs.Recorded):
        recorder.take(line.span)


def _cpu_s() -> float:
    """Of this process and its children that have ended, the kernel's part included."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
