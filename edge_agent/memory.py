"""What the agent's processes use of memory, as the kernel tells it, or psutil on other systems than Linux.

The budget bounds *anonymous* memory (`rss - shared`, summed over the process tree) plus the mapped working set that
the pack declares: the pages of a mapped file are the kernel's to take back, anonymous ones are not. RSS and its
high-water mark are measured beside it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent import procfs

SAMPLE_EVERY_S = 0.01
ENDLESS_BYTES = 2**62
_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LIBC = ctypes.CDLL(None)
_BESIDE: list[Callable[[], int]] = []
"""As memory belongs to the process, so does the count of it."""
_LINUX = sys.platform == "linux"
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Parameters of mallopt(3), by malloc.h."""
_MAPPED_FROM_BYTES = 64 * 1024


@dataclass(frozen=True)
class Sample:
    """Bytes of a process tree at one moment."""

    rss_bytes: int
    anonymous_bytes: int


def count_beside(held_bytes: Callable[[], int]) -> None:
    """From now on what `held_bytes` tells counts as this process's own, in whatever measures it here.

    For memory of the system that no count of a process shows, such as what CUDA takes on a Jetson.
    """
    if held_bytes not in _BESIDE:
        _BESIDE.append(held_bytes)


def own() -> Sample:
    """This process alone."""
    return _of(os.getpid())


def tree(pid: int) -> Sample:
    """The process `pid` and all its descendants; those that end meanwhile count nothing."""
    samples = [_of(pid)]
    for child in _descendants(pid):
        try:
            samples.append(_of(child))
        except ProcessLookupError:
            continue
    return Sample(sum(s.rss_bytes for s in samples), sum(s.anonymous_bytes for s in samples))


def available_bytes() -> int:
    """What the system could give without swapping, within the limits of this process's control groups."""
    available = procfs.system()["MemAvailable"] if _LINUX else _psutil().virtual_memory().available
    return min(available, group_room_bytes())


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
    return procfs.system()["MemTotal"] if _LINUX else _psutil().virtual_memory().total


@dataclass(frozen=True)
class Proportional:
    """A process tree's share of pages that it has in common with others (PSS), and what is its own alone (USS)."""

    pss_bytes: int
    uss_bytes: int


def proportional(pid: int) -> Proportional | None:
    """PSS and USS of the tree below `pid`, or None where this user may not read them or the system has none."""
    if not _LINUX:
        return None
    try:
        shares = [procfs.proportional(one) for one in (pid, *procfs.descendants(pid))]
    except OSError:
        return None
    return Proportional(sum(pss for pss, _ in shares), sum(uss for _, uss in shares))


def high_water_bytes() -> int | None:
    """The kernel's high-water mark of this process's RSS; None where `/proc` does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            line = next((line for line in status if line.startswith("VmHWM:")), None)
    except OSError:
        return None
    return None if line is None else int(line.split()[1]) * 1024


def stay_small() -> None:
    """For a process that lives long and does little: its threads share one heap, and large blocks, as chunks of a pack,
    go back to the system when they are freed. Before the first thread is started."""
    if hasattr(_LIBC, "mallopt"):  # as below
        _LIBC.mallopt(_M_ARENA_MAX, 1)
        _LIBC.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)


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


def _of(pid: int) -> Sample:
    """Raises ProcessLookupError where it is gone."""
    beside_bytes = sum(held_bytes() for held_bytes in _BESIDE) if pid == os.getpid() else 0
    if _LINUX:
        try:
            found = procfs.resident(pid)
        except FileNotFoundError as error:
            raise ProcessLookupError(f"there is no process {pid}") from error
        return Sample(found.rss_bytes + beside_bytes, found.rss_bytes - found.shared_bytes + beside_bytes)
    try:
        info = _psutil().Process(pid).memory_info()
    except _psutil().NoSuchProcess as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    rss_bytes = info.rss + beside_bytes
    return Sample(rss_bytes, rss_bytes)  # the RSS is not split: all of it counts


def _descendants(pid: int) -> list[int]:
    if _LINUX:
        return procfs.descendants(pid)
    return [child.pid for child in _psutil().Process(pid).children(recursive=True)]


def _psutil() -> Any:
    import psutil  # noqa: PLC0415 (it costs the supervisor 0.8 MB, and Linux tells without it)

    return psutil
