"""What this process's memory control group holds, and the most it ever held; versions 1 and 2 of the interface.

Sources: the kernel's Documentation/admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst. `memory.peak` came with 5.19.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from .text import number_in

MOUNTED = "sys/fs/cgroup"


class GroupUsage(NamedTuple):
    """Bytes of all processes in the group, file pages and the kernel's own included."""

    current_bytes: int | None
    peak_bytes: int | None
    """Since the group was made."""


def usage(root: Path) -> GroupUsage:
    """Of the group that this process is in."""
    lines = read(root / "proc/self/cgroup").splitlines()
    for line in lines:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "memory" in controllers.split(","):
            group = _group(root / MOUNTED / "memory", path)
            return GroupUsage(
                number_in(group / "memory.usage_in_bytes"), number_in(group / "memory.max_usage_in_bytes")
            )
    # Version 2 has one line, and the number 0.
    unified = [line[3:] for line in lines if line.startswith("0::")]
    group = _group(root / MOUNTED, unified[0] if unified else "")
    return GroupUsage(number_in(group / "memory.current"), number_in(group / "memory.peak"))


def _group(mounted: Path, path: str) -> Path:
    """Where the group is; a container that sees its own group only has it where groups are mounted."""
    own = mounted / path.strip().lstrip("/").replace("\0", "")
    return own if own.is_dir() else mounted
