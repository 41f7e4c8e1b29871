"""Measures engines side by side: all are kept alive, and step in turn, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from profiling.cgroup import Usage, drop_caches, memory_cgroup

from .live import LiveWorker
from .spec import AnySpec, Done, OnnxSpec

SETTLE_S = 0.1
"""Rest before a step, in which the threads of the step before stop spinning."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """One engine. `steps_s` are its steps after the first; the peaks are those of its whole process."""

    spec: AnySpec
    start_s: float
    steps_s: tuple[float, ...]
    peak_rss_bytes: int
    peak_anonymous_bytes: int
    usage: Usage | None = None
    """Of its cgroup, if it ran in one."""


def measure(specs: Sequence[AnySpec], repeats: int, say: Say, cgroup_bytes: int | None = None) -> list[Measured]:
    """Starts a process for each of `specs`, then lets each make one step, `repeats` times over.

    With `cgroup_bytes`, each mode of this project's engine runs in a memory cgroup of that limit, on cold caches, and
    all by itself before the others: a library that another process has mapped would be charged to that one.

    Raises:
        RankfleetError: a worker ended before its time, or cgroups cannot be made here.
    """
    limits = [cgroup_bytes if isinstance(spec, OnnxSpec) else None for spec in specs]
    bounded = [
        _in_cgroup(spec, repeats, say, limit) for spec, limit in zip(specs, limits, strict=True) if limit is not None
    ]
    free = _in_turn([spec for spec, limit in zip(specs, limits, strict=True) if limit is None], repeats, say)
    return sorted(bounded + free, key=lambda one: specs.index(one.spec))


def _in_cgroup(spec: AnySpec, repeats: int, say: Say, limit_bytes: int) -> Measured:
    say(f"measuring {spec.mode} in a memory cgroup")
    with memory_cgroup(limit_bytes) as group:
        drop_caches()
        with closing(LiveWorker(spec, group.command)) as worker:
            done = [worker.step() for _ in range(repeats)]
            return _measured(worker, done, group.usage())


def _in_turn(specs: Sequence[AnySpec], repeats: int, say: Say) -> list[Measured]:
    with ExitStack() as stack:
        workers = []
        for spec in specs:
            say(f"starting {spec.mode}")
            workers.append(stack.enter_context(closing(LiveWorker(spec))))
        done: list[list[Done]] = [[] for _ in workers]
        for repeat in range(repeats):
            say(f"repetition {repeat + 1} of {repeats}")
            for worker, answers in zip(workers, done, strict=True):
                time.sleep(SETTLE_S)
                answers.append(worker.step())
        return [_measured(worker, answers, None) for worker, answers in zip(workers, done, strict=True)]


def _measured(worker: LiveWorker, done: Sequence[Done], usage: Usage | None) -> Measured:
    """`done` are the steps after the first."""
    steps_s = tuple(one.step_s for one in done)
    return Measured(worker.spec, worker.start_s, steps_s, done[-1].peak_rss_bytes, done[-1].peak_anonymous_bytes, usage)
