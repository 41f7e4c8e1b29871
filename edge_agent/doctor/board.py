"""The board and its system: what it is, and whether the agent was made for it."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from edge_agent.doctor.finding import Finding

MACHINES = ("aarch64", "x86_64")
KNOWN_SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "debian": ("12", "13"),
    "raspbian": ("12", "13"),
    "ubuntu": ("22.04", "24.04"),
}
"""`ID` and `VERSION_ID` of os-release(5). 64-bit Raspberry Pi OS calls itself debian."""
KNOWN_PAGE_BYTES = (4096, 16384, 65536)
OLDEST_GLIBC = (2, 28)
"""Of the wheels that the agent installs (manylinux_2_28)."""
JETPACK_RELEASE = 36
"""Of `nv_tegra_release` in JetPack 6."""


def board(root: Path, machine: str = "", bits: int = 0) -> Finding:
    """Model and architecture; by default those of this process."""
    machine, bits = machine or platform.machine(), bits or (64 if sys.maxsize > 2**32 else 32)
    model = read(root / "proc/device-tree/model").rstrip("\0\n") or "no model named"
    found = f"{model}, {machine}, {bits}-bit programs"
    if machine not in MACHINES or bits != 64:
        remedy = f"Needed is a 64-bit system on {' or '.join(MACHINES)}: on a Raspberry Pi install the 64-bit system."
        return Finding("board", "failure", found, remedy)
    return Finding("board", "ok", found)


def system(root: Path, glibc: str = "") -> Finding:
    """Distribution, and the age of its C library."""
    release = _os_release(read(root / "etc/os-release"))
    glibc = glibc or platform.libc_ver()[1]
    name = release.get("PRETTY_NAME", "no /etc/os-release")
    tegra = re.match(r"# R(\d+)", read(root / "etc/nv_tegra_release"))
    found = f"{name}, glibc {glibc or 'unknown'}" + (f", Jetson Linux R{tegra[1]}" if tegra else "")
    if _numbers(glibc) and _numbers(glibc) < OLDEST_GLIBC:
        oldest = ".".join(map(str, OLDEST_GLIBC))
        return Finding("system", "failure", found, f"Packages need glibc {oldest} or newer: upgrade the system.")
    if tegra and int(tegra[1]) < JETPACK_RELEASE:
        return Finding("system", "warning", found, "Tried with JetPack 6 (R36): upgrade, or use the CPU engine.")
    if release.get("VERSION_ID") not in KNOWN_SYSTEMS.get(release.get("ID", ""), ()):
        known = "; ".join(f"{one} {', '.join(versions)}" for one, versions in KNOWN_SYSTEMS.items())
        return Finding("system", "warning", found, f"Not among those that it is made for: {known}.")
    return Finding("system", "ok", found)


def page_size(page_bytes: int) -> Finding:
    """Of memory: what is mapped is mapped in whole pages."""
    found = f"{page_bytes} bytes"
    if page_bytes in KNOWN_PAGE_BYTES:
        return Finding("page size", "ok", found)
    known = ", ".join(map(str, KNOWN_PAGE_BYTES))
    return Finding("page size", "warning", found, f"Libraries are built for pages of {known} bytes: use such a kernel.")


def read(path: Path) -> str:
    """The text of a file of the system; empty where there is none, or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _os_release(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip("\"'") for key, value in pairs}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
