"""A memory cgroup with a limit, to measure what really fits: anonymous memory, page cache and kernel memory together.

::

    with memory_cgroup(192 * 2**20) as group:
        drop_caches()
        subprocess.run(group.command([sys.executable, "-m", "..."]), check=True)
        print(group.usage())

A page of a file is charged to whoever touches it first, so caches must be dropped before a measurement: what others
have read already would be free. Versions 1 and 2 of the kernel's interface are known; both want root, or a folder that
root has handed over (the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.wire.errors import RankfleetError

REMOVE_WITHIN_S = 5.0
POLL_S = 0.05
_ENTER = 'echo $$ > "$0" && exec "$@"'
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_PROCESSES = "cgroup.procs"


class Usage(msgspec.Struct, frozen=True):
    """What the processes of a group used.

    `peak_bytes` counts file pages too, so it reaches the limit where more of them are read than fit. `limit_hits` is
    how often the limit was met and pages had to go, `refaulted_pages` how many that had gone were read again.
    """

    limit_bytes: int
    peak_bytes: int
    limit_hits: int
    refaulted_pages: int
    oom_kills: int


@dataclass(frozen=True)
class Place:
    """The folder in which groups can be made, and whether it is of version 2."""

    folder: Path
    unified: bool


@dataclass(frozen=True)
class MemoryCgroup:
    """One group."""

    folder: Path
    unified: bool
    limit_bytes: int

    def command(self, command: Sequence[str]) -> list[str]:
        """`command`, to be run as a member of the group from before its first instruction, children included."""
        return ["/bin/sh", "-c", _ENTER, str(self.folder / _PROCESSES), *command]

    def usage(self) -> Usage:
        """What was used so far.

        Raises:
            RankfleetError: the kernel does not tell.
        """
        stat = _table(self._read("memory.stat"))
        peak, kills = "memory.max_usage_in_bytes", "memory.oom_control"
        if self.unified:
            peak, kills = "memory.peak", "memory.events"
        return Usage(
            limit_bytes=self.limit_bytes,
            peak_bytes=int(self._read(peak)),
            limit_hits=self._limit_hits(),
            refaulted_pages=sum(value for name, value in stat.items() if name.startswith("workingset_refault")),
            oom_kills=_table(self._read(kills))["oom_kill"],
        )

    def _limit_hits(self) -> int:
        if self.unified:
            return _table(self._read("memory.events"))["max"]
        return int(self._read("memory.failcnt"))

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="ascii")
        except OSError as error:
            raise RankfleetError(f"the kernel does not tell {name} ({error.strerror}): use a newer one") from error


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """A group with the limit `limit_bytes` and no swap; its processes must have ended when it is left.

    Raises:
        RankfleetError: this system or this user cannot make one, or a process is still in it at the end.
    """
    place = find_place(_read_proc("cgroup"), _read_proc("mounts"))
    group = MemoryCgroup(place.folder / f"rankfleet-{uuid.uuid4().hex[:12]}", place.unified, limit_bytes)
    try:
        group.folder.mkdir()
    except OSError as error:
        raise _not_permitted(group.folder, error) from error
    try:
        _limit(group)
        yield group
    finally:
        _remove(group.folder)


def drop_caches() -> None:
    """Makes the kernel forget all file pages, of the whole system, so that the next read counts as the first.

    Raises:
        RankfleetError: not permitted.
    """
    os.sync()  # dirty pages stay
    try:
        _DROP_CACHES.write_text("1\n", encoding="ascii")
    except OSError as error:
        raise RankfleetError(f"caches cannot be dropped ({_DROP_CACHES}: {error.strerror}): run as root") from error


def find_place(cgroup: str, mounts: str) -> Place:
    """Where this process can make groups, from the texts of `/proc/self/cgroup` and `/proc/self/mounts`.

    With version 1 below the process's own group. With version 2 beside it, for there a group with processes in it can
    have no groups with limits below it.

    Raises:
        RankfleetError: no memory controller.
    """
    mounted = [line.split()[1:4] for line in mounts.splitlines()]
    for line in cgroup.splitlines():
        _, controllers, own = line.split(":", 2)
        for folder, kind, options in mounted:
            path = Path(folder + own.rstrip("/"))
            if kind == "cgroup" and "memory" in options.split(",") and "memory" in controllers.split(","):
                return Place(path, unified=False)
            if kind == "cgroup2" and not controllers and _controls_memory(path):
                return Place(path if own == "/" else path.parent, unified=True)
    raise RankfleetError("this kernel offers no memory cgroup: add 'cgroup_enable=memory' to its command line")


def _controls_memory(folder: Path) -> bool:
    try:
        return "memory" in (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return False  # another version 2 tree, without what we look for


def _limit(group: MemoryCgroup) -> None:
    # With version 1 a limit of memory with swap would do as well, but hits of it are not counted by recent kernels.
    memory, swap = "memory.limit_in_bytes", "memory.swappiness"
    if group.unified:
        memory, swap = "memory.max", "memory.swap.max"
    try:
        _write(group.folder / memory, str(group.limit_bytes))
        if (group.folder / swap).exists():  # a kernel without swap has no such file
            _write(group.folder / swap, "0")
    except OSError as error:
        raise _not_permitted(group.folder, error) from error


def _write(path: Path, text: str) -> None:
    with path.open("r+", encoding="ascii") as file:  # never creates: a missing file is an error
        file.write(text)


def _remove(folder: Path) -> None:
    """The kernel lets a group go a moment after its last process."""
    deadline_s = time.monotonic() + REMOVE_WITHIN_S
    while True:
        try:
            return folder.rmdir()
        except OSError as error:
            if time.monotonic() > deadline_s:
                pids = (folder / _PROCESSES).read_text(encoding="ascii").split()
                raise RankfleetError(f"{folder} cannot be removed: processes {pids} must end first") from error
        time.sleep(POLL_S)


def _table(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def _read_proc(name: str) -> str:
    try:
        return Path("/proc/self", name).read_text(encoding="utf-8")
    except OSError as error:
        raise RankfleetError(f"/proc/self/{name} cannot be read: memory cgroups need Linux") from error


def _not_permitted(folder: Path, error: OSError) -> RankfleetError:
    return RankfleetError(
        f"expected to make the memory cgroup {folder}, got: {error.strerror}; run as root, or measure without a limit"
    )
