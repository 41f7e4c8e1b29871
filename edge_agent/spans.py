"""What one process did between two moments; the supervisor and the trainer each measure their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_agent import memory
from edge_agent.meter import PhaseMeter
from edge_agent.sensors import process, system
from edge_agent.sensors.process import Faults, Memory, Shares, Storage


class Stalls(msgspec.Struct, frozen=True):
    """Seconds in which some task of the whole system waited for a resource; null where the kernel does not tell."""

    cpu_s: float | None
    memory_s: float | None
    io_s: float | None


class Span(msgspec.Struct, frozen=True):
    """One process from the end of its span before, or from its beginning, to `end_s`, which is `time.monotonic()`.

    What cannot be measured is null. Memory is in bytes of this process alone: peaks are of the span, where they were
    seen; but the shares, PSS and USS, are those of supervisor and trainer together, at its end.
    """

    name: str
    end_s: float
    cpu_s: float
    peak_rss_bytes: int | None
    peak_anonymous_bytes: int | None
    file_bytes: int | None
    pss_bytes: int | None
    uss_bytes: int | None
    minor_faults: int | None
    major_faults: int | None
    read_bytes: int | None
    written_bytes: int | None
    stalls: Stalls
    measuring_cpu_s: float
    """CPU time that measuring it took."""


class _Counters(NamedTuple):
    """What only grows, and the memory that is held."""

    cpu_s: float
    memory: Memory
    faults: Faults
    storage: Storage
    stalled_s: tuple[float | None, ...]


class SpanMeter:
    """Measures the spans of this process, one after the other; the first began with the process."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        stalled_s = tuple(pressure.some_s for pressure in system.pressure(root).values())
        self._before = _Counters(0.0, Memory(0, 0, 0, 0), Faults(0, 0), Storage(0, 0), stalled_s)
        self._sampler: memory.PeakSampler | None = None

    def follow(self, sampler: memory.PeakSampler) -> None:
        """From now on, peaks are those that `sampler` sees."""
        self._sampler = sampler

    def lap(self, name: str, shares: Shares | None = None) -> Span:
        """Ends the present span, which gets that name. `shares` are those of its end, if they are known already: to
        have the kernel count them is what takes the most time here."""
        begin_s = time.thread_time()
        before, now = self._before, self._count()
        self._before = now
        held, shares = now.memory, shares or process.shares(self._root)
        seen = None if self._sampler is None else self._sampler.lap()
        risen = held.peak_rss_bytes is not None and held.peak_rss_bytes != before.memory.peak_rss_bytes
        rss_bytes = held.rss_bytes if seen is None else seen.rss_bytes
        stalls = (_less(after, earlier) for after, earlier in zip(now.stalled_s, before.stalled_s, strict=True))
        return Span(
            name=name,
            end_s=time.monotonic(),
            cpu_s=now.cpu_s - before.cpu_s,
            # A mark that rose is exact; one that did not tells of an earlier span.
            peak_rss_bytes=held.peak_rss_bytes if risen else rss_bytes,
            peak_anonymous_bytes=held.anonymous_bytes if seen is None else seen.anonymous_bytes,
            file_bytes=held.file_bytes,
            pss_bytes=shares.pss_bytes,
            uss_bytes=shares.uss_bytes,
            minor_faults=_difference(now.faults.minor, before.faults.minor),
            major_faults=_difference(now.faults.major, before.faults.major),
            read_bytes=_difference(now.storage.read_bytes, before.storage.read_bytes),
            written_bytes=_difference(now.storage.written_bytes, before.storage.written_bytes),
            stalls=Stalls(*stalls),
            measuring_cpu_s=time.thread_time() - begin_s,
        )

    def _count(self) -> _Counters:
        return _Counters(
            time.process_time(),
            process.memory(self._root),
            process.faults(self._root),
            process.storage(self._root),
            tuple(pressure.some_s for pressure in system.pressure(self._root).values()),
        )


class JobPhases:
    """The phases of a trainer's job: measured for its report, and told one by one to a supervisor that records."""

    def __init__(self, meter: PhaseMeter, tell: Callable[[Span], None] | None) -> None:
        """`tell` is None where nobody records."""
        self._meter, self._tell = meter, tell
        self._spans = None if tell is None else SpanMeter()
        self.drain = meter.drain
        self._name = ""

    def enter(self, name: str) -> None:
        """Ends the present phase, if any, and begins another; an empty name begins none."""
        self._meter.enter(name)
        if self._tell is not None and self._spans is not None and self._name:
            ended = self._meter.ended(self._name)
            known = Shares(None, None) if ended is None else Shares(ended.pss_bytes, ended.uss_bytes)
            self._tell(self._spans.lap(self._name, known))
        self._name = name

    def follow(self, sampler: memory.PeakSampler) -> None:
        """From now on, peaks are those that `sampler` sees."""
        if self._spans is not None:
            self._spans.follow(sampler)


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _less(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before
