"""What the kernel offers and says: memory control groups, pressure, swap, heat and power."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_agent.doctor.board import read
from edge_agent.doctor.finding import Finding

CMDLINES = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
"""Of Raspberry Pi OS: bookworm and later, and before."""
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"
HOT_C = 80.0
"""Where a Raspberry Pi begins to slow down."""
_POWER = {
    0: "the voltage is too low",
    1: "the clock is capped",
    2: "it is throttled",
    3: "it is at its soft limit of heat",
}
_PAST = 16
"""Bits of the firmware's report `get_throttled`; so much higher they say that it was so since the start."""


def memory_groups(root: Path) -> Finding:
    """Whether a limit of memory can be set for the agent (systemd's MemoryMax)."""
    check = "memory control group"
    unified = read(root / "sys/fs/cgroup/cgroup.controllers").split()
    if "memory" in unified:
        return Finding(check, "ok", "version 2")
    if (root / "sys/fs/cgroup/memory/memory.limit_in_bytes").exists():
        return Finding(check, "ok", "version 1")
    remedy = _add(root, "cgroup_enable=memory cgroup_memory=1")
    return Finding(check, "warning", "off: the kernel cannot hold the agent to a limit of memory", remedy)


def pressure(root: Path) -> Finding:
    """Pressure stall information."""
    first = read(root / "proc/pressure/memory").splitlines()[:1]
    if first:
        return Finding("pressure", "ok", first[0])
    return Finding("pressure", "warning", "the kernel does not tell when memory is short", _add(root, "psi=1"))


def swap(root: Path) -> Finding:
    """Where memory is swapped to."""
    devices = [line.split()[0] for line in read(root / "proc/swaps").splitlines()[1:] if line.split()]
    slow = [device for device in devices if not device.startswith("/dev/zram")]
    if slow:
        remedy = "Swapping to a card is slow and wears it: use zram (package zram-tools, or systemd-zram-generator)."
        return Finding("swap", "warning", f"on {', '.join(slow)}", remedy)
    return Finding("swap", "ok", "in compressed memory (zram)" if devices else "none")


def power(root: Path) -> Finding:
    """What a Raspberry Pi's firmware says of voltage and throttling."""
    text = read(root / THROTTLED).strip()
    try:
        bits = int(text, 16)
    except ValueError:
        return Finding("power", "ok", "this board does not tell")
    now, past = _told(bits), _told(bits >> _PAST)
    remedy = "Use the board's own power supply and a short cable; give it a heat sink or a fan."
    if now:
        return Finding("power", "warning", f"now: {', '.join(now)}", remedy)
    if past:
        return Finding("power", "warning", f"since the start: {', '.join(past)}", remedy)
    return Finding("power", "ok", "enough, never throttled")


def heat(root: Path) -> Finding:
    """The hottest sensor."""
    found = list(_temperatures_c(sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))))
    if not found:
        return Finding("heat", "ok", "this board does not tell")
    hottest_c = max(found)
    if hottest_c >= HOT_C:
        return Finding("heat", "warning", f"{hottest_c:.0f} degrees Celsius", "Give it a heat sink, a fan, or shade.")
    return Finding("heat", "ok", f"{hottest_c:.0f} degrees Celsius")


def _temperatures_c(files: Iterable[Path]) -> Iterable[float]:
    for file in files:
        text = read(file).strip()
        if text.lstrip("-").isdigit():
            yield int(text) / 1000


def _told(bits: int) -> list[str]:
    return [said for bit, said in _POWER.items() if bits >> bit & 1]


def _add(root: Path, words: str) -> str:
    """Where to tell the kernel so."""
    for path in CMDLINES:
        if (root / path).exists():
            return f"Add '{words}' to the end of the one line in /{path}, and restart the board."
    return f"Add '{words}' to the kernel's command line, and restart the board."
