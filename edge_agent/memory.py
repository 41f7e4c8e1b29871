"""What the agent's processes use of memory, as psutil tells it.

The budget bounds *anonymous* memory (`rss - shared`, summed over the process tree) plus the mapped working set that
the pack declares: the pages of a mapped file are the kernel's to take back, anonymous ones are not. RSS and its
high-water mark are measured beside it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_EVERY_S = 0.01
ENDLESS_BYTES = 2**62
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Sample:
    """Bytes of a process tree at one moment."""

    rss_bytes: int
    anonymous_bytes: int


def own() -> Sample:
    """This process alone."""
    return _of(psutil.Process())


def tree(process: psutil.Process) -> Sample:
    """`process` and all its descendants; those that end meanwhile count nothing."""
    samples = [_of(process)]
    for child in process.children(recursive=True):
        try:
            samples.append(_of(child))
        except psutil.NoSuchProcess:
            continue
    return Sample(sum(s.rss_bytes for s in samples), sum(s.anonymous_bytes for s in samples))


def available_bytes() -> int:
    """What the system could give without swapping, within the limits of this process's control groups."""
    return min(psutil.virtual_memory().available, group_room_bytes())


def group_room_bytes(own_groups: Path = _OWN_GROUPS, root: Path = _GROUPS) -> int:
    """What this process's control groups leave it, file pages counted as free; endless without a limit.

    `own_groups` says which they are, `root` is where they are mounted (the kernel's cgroup-v1/memory.rst and
    cgroup-v2.rst). A group's limit holds for all below it, so the least room on the way up counts.
    """
    try:
        lines = own_groups.read_text(encoding="utf-8").splitlines()
    except OSError:  # no Linux, or none of its control groups
        return ENDLESS_BYTES
    rooms = [ENDLESS_BYTES]
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if "memory" in controllers.split(","):
            rooms += _rooms_bytes(root / "memory", path, "memory.limit_in_bytes", "memory.usage_in_bytes")
        elif not controllers:
            rooms += _rooms_bytes(root, path, "memory.max", "memory.current")
    return min(rooms)


def _rooms_bytes(root: Path, path: str, limit: str, usage: str) -> Iterator[int]:
    """The room in the group `path` and in each above it. In a container the outer ones are not to be seen."""
    group = root / path.lstrip("/")
    for folder in (group, *group.parents):
        try:
            limit_bytes = (folder / limit).read_text(encoding="ascii").strip()
            used_bytes = int((folder / usage).read_text(encoding="ascii"))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        except OSError:
            continue
        if limit_bytes != "max":
            # Version 1 counts groups below apart, under names with a prefix; version 2 has one count.
            files_bytes = sum(int(stat.get(f"total_{kind}", stat[kind])) for kind in ("active_file", "inactive_file"))
            yield max(0, int(limit_bytes) - used_bytes + files_bytes)


def total_bytes() -> int:
    """Physical memory of the system."""
    return psutil.virtual_memory().total


@dataclass(frozen=True)
class Proportional:
    """A process tree's share of pages that it has in common with others (PSS), and what is its own alone (USS)."""

    pss_bytes: int
    uss_bytes: int


def proportional(process: psutil.Process) -> Proportional | None:
    """PSS and USS of the tree, or None where this user may not read them or the system has none."""
    try:
        infos = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
        return Proportional(sum(info.pss for info in infos), sum(info.uss for info in infos))
    except (psutil.AccessDenied, psutil.NoSuchProcess, AttributeError):
        return None


def high_water_bytes() -> int | None:
    """The kernel's high-water mark of this process's RSS; None where `/proc` does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            line = next((line for line in status if line.startswith("VmHWM:")), None)
    except OSError:
        return None
    return None if line is None else int(line.split()[1]) * 1024


def give_back() -> None:
    """Returns freed memory to the system: the allocator keeps it otherwise, and it counts as used."""
    if hasattr(_LIBC, "malloc_trim"):  # glibc has it, other C libraries do not
        _LIBC.malloc_trim(0)


class PeakSampler:
    """Follows the peak of a measurement from a thread of its own, every `SAMPLE_EVERY_S`."""

    def __init__(self, measure: Callable[[], Sample] = own) -> None:
        self._measure = measure
        self._lock = threading.Lock()
        self._peak = self._lap = measure()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> PeakSampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def peak(self) -> Sample:
        """Highest values since the start or the last `restart`, each by itself."""
        self._take()
        return self._peak

    def lap(self) -> Sample:
        """Highest values since the last lap or the start, whatever was restarted meanwhile."""
        self._take()
        with self._lock:
            lap, self._lap = self._lap, self._measure()
        return lap

    def restart(self) -> None:
        """Forgets the peak so far."""
        with self._lock:
            self._peak = self._measure()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_EVERY_S):
            self._take()

    def _take(self) -> None:
        with self._lock:  # around the measurement too: one from before a restart must not count after it
            now = self._measure()
            self._peak, self._lap = _higher(self._peak, now), _higher(self._lap, now)


def _higher(one: Sample, other: Sample) -> Sample:
    return Sample(max(one.rss_bytes, other.rss_bytes), max(one.anonymous_bytes, other.anonymous_bytes))


def _of(process: psutil.Process) -> Sample:
    info = process.memory_info()
    # Other systems than Linux do not split the RSS: all of it counts then.
    return Sample(info.rss, info.rss - getattr(info, "shared", 0))
