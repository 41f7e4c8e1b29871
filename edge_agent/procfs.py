"""What Linux tells of processes and memory (proc(5)), without psutil: the resident supervisor has no room for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_KIB = 1024


class Resident(NamedTuple):
    """Resident bytes of one process, and those of them that are pages of files or shared."""

    rss_bytes: int
    shared_bytes: int


def resident(pid: int) -> Resident:
    """Of one process. Raises OSError where it is gone."""
    fields = (PROC / str(pid) / "statm").read_text(encoding="ascii").split()
    return Resident(int(fields[1]) * _PAGE_BYTES, int(fields[2]) * _PAGE_BYTES)


def proportional(pid: int) -> tuple[int, int]:
    """PSS and USS of one process, in bytes. Raises OSError where it is gone, or is another user's."""
    found = _sizes(PROC / str(pid) / "smaps_rollup")
    return found["Pss"], found["Private_Clean"] + found["Private_Dirty"] + found.get("Private_Hugetlb", 0)


def system() -> dict[str, int]:
    """`/proc/meminfo` in bytes."""
    return _sizes(PROC / "meminfo")


def parent(pid: int) -> int:
    """The parent of a process. Raises OSError where it is gone."""
    stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[1])  # the name before may hold anything, brackets too


def cpu_s(pid: int) -> float:
    """Processor time of a process and all its threads. Raises OSError where it is gone."""
    stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    user, kernel = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(kernel)) / _TICKS_PER_S


def descendants(pid: int) -> list[int]:
    """All processes below `pid`; those that end meanwhile may be missing."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(PROC):  # noqa: PTH208
        if name.isdigit():
            try:
                children.setdefault(parent(int(name)), []).append(int(name))
            except OSError:
                continue
    found = list(children.get(pid, ()))
    for one in found:  # grows while it is walked
        found += children.get(one, ())
    return found


def _sizes(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * _KIB for row in rows if len(row) == 3 and row[2] == "kB"}
