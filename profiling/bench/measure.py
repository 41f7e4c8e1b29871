"""Measures engines side by side: all are kept alive, and step in turn, so that all see the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from profiling.cgroup import MemoryCgroup, Usage, drop_caches, memory_cgroup

from .live import LiveWorker
from .spec import AnySpec, OnnxSpec

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

    With `cgroup_bytes`, this project's engine runs in a memory cgroup of that limit, a group for each mode, and starts
    on cold caches.

    Raises:
        RankfleetError: a worker ended before its time, or cgroups cannot be made here.
    """
    with ExitStack() as stack:
        workers, groups = [], []
        for spec in specs:
            say(f"starting {spec.mode}")
            groups.append(_group(stack, spec, cgroup_bytes))
            workers.append(_start(stack, spec, groups[-1]))
        done = [[worker.first] for worker in workers]
        for repeat in range(repeats):
            say(f"repetition {repeat + 1} of {repeats}")
            for worker, answers in zip(workers, done, strict=True):
                time.sleep(SETTLE_S)
                answers.append(worker.step())
        return [
            Measured(
                worker.spec,
                worker.start_s,
                tuple(answer.step_s for answer in answers[1:]),
                answers[-1].peak_rss_bytes,
                answers[-1].peak_anonymous_bytes,
                None if group is None else group.usage(),
            )
            for worker, answers, group in zip(workers, done, groups, strict=True)
        ]


def _group(stack: ExitStack, spec: AnySpec, cgroup_bytes: int | None) -> MemoryCgroup | None:
    if cgroup_bytes is None or not isinstance(spec, OnnxSpec):
        return None
    return stack.enter_context(memory_cgroup(cgroup_bytes))


def _start(stack: ExitStack, spec: AnySpec, group: MemoryCgroup | None) -> LiveWorker:
    if group is None:
        return stack.enter_context(closing(LiveWorker(spec)))
    drop_caches()
    return stack.enter_context(closing(LiveWorker(spec, group.command)))
