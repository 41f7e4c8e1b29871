"""What Linux tells of one process, in `/proc/PID` (the kernel's Documentation/filesystems/proc.rst)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from .text import kilobytes, table, total, whole

_MINOR, _MAJOR = 7, 9
"""Places in `stat` behind the name of the program, which may hold anything: of pages found in memory, and fetched."""


class Memory(NamedTuple):
    """Resident memory, and its high-water mark since the process began."""

    rss_bytes: int | None
    anonymous_bytes: int | None
    file_bytes: int | None
    """Of mapped files, and shared memory."""
    peak_rss_bytes: int | None


class Shares(NamedTuple):
    """The proportional share of pages that others map too (PSS), and what is this process's alone (USS)."""

    pss_bytes: int | None
    uss_bytes: int | None


class Faults(NamedTuple):
    """Page faults since the process began: without and with reading from a disk."""

    minor: int | None
    major: int | None


class Storage(NamedTuple):
    """Bytes that went through to storage since the process began."""

    read_bytes: int | None
    written_bytes: int | None


def parse_status(text: str) -> Memory:
    """Of `status`."""
    lines = table(text)
    files = (kilobytes(lines.get(name, "")) for name in ("RssFile", "RssShmem"))
    return Memory(
        rss_bytes=kilobytes(lines.get("VmRSS", "")),
        anonymous_bytes=kilobytes(lines.get("RssAnon", "")),
        file_bytes=total([*files]),
        peak_rss_bytes=kilobytes(lines.get("VmHWM", "")),
    )


def parse_smaps_rollup(text: str) -> Shares:
    """Of `smaps_rollup`."""
    lines = table(text)
    private = [kilobytes(lines.get(name, "")) for name in ("Private_Clean", "Private_Dirty")]
    return Shares(kilobytes(lines.get("Pss", "")), total(private))


def parse_stat(text: str) -> Faults:
    """Of `stat`."""
    fields = text.rpartition(")")[2].split()
    if len(fields) <= _MAJOR:
        return Faults(None, None)
    return Faults(whole(fields[_MINOR]), whole(fields[_MAJOR]))


def parse_io(text: str) -> Storage:
    """Of `io`."""
    lines = table(text)
    return Storage(whole(lines.get("read_bytes", "")), whole(lines.get("write_bytes", "")))


def memory(root: Path, process: str = "self") -> Memory:
    """Of the process with that identifier."""
    return parse_status(read(root / "proc" / process / "status"))


def shares(root: Path, process: str = "self") -> Shares:
    """The kernel walks all pages for it: some milliseconds for a large process."""
    return parse_smaps_rollup(read(root / "proc" / process / "smaps_rollup"))


def faults(root: Path, process: str = "self") -> Faults:
    """Of the process with that identifier."""
    return parse_stat(read(root / "proc" / process / "stat"))


def storage(root: Path, process: str = "self") -> Storage:
    """Of the process with that identifier; where it may not be read, nothing is told."""
    return parse_io(read(root / "proc" / process / "io"))
