"""What Linux tells of the whole system: memory, pressure, heat, clocks and what slows them down.

Sources: the kernel's Documentation/filesystems/proc.rst, accounting/psi.rst, driver-api/thermal/sysfs-api.rst and
admin-guide/pm/cpufreq.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from .text import kilobytes, number_in, scaled, table, whole

COLDEST_C, HOTTEST_C = -60.0, 200.0
"""Beyond these it is no temperature: a Jetson says -256 degrees of a part that is switched off."""
PRESSURES = ("cpu", "memory", "io")
_SLOWING = ("cpufreq", "Processor")
"""How the types of cooling devices begin, or end, that slow the processor down."""


class Meminfo(NamedTuple):
    """Memory of the system."""

    total_bytes: int | None
    available_bytes: int | None
    swap_total_bytes: int | None
    swap_free_bytes: int | None


class Pressure(NamedTuple):
    """Seconds since the start in which some or all tasks waited for a resource."""

    some_s: float | None
    full_s: float | None


def parse_meminfo(text: str) -> Meminfo:
    """Of `/proc/meminfo`."""
    lines = table(text)
    return Meminfo(*(kilobytes(lines.get(name, "")) for name in ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")))


def parse_pressure(text: str) -> Pressure:
    """Of a file in `/proc/pressure`, or of a control group's."""
    lines = table(text, None)
    return Pressure(_stalled_s(lines.get("some", "")), _stalled_s(lines.get("full", "")))


def meminfo(root: Path) -> Meminfo:
    """Memory of the system."""
    return parse_meminfo(read(root / "proc/meminfo"))


def pressure(root: Path) -> Mapping[str, Pressure]:
    """By resource (`PRESSURES`)."""
    return {name: parse_pressure(read(root / "proc/pressure" / name)) for name in PRESSURES}


def temperatures_c(root: Path) -> Mapping[str, float]:
    """By thermal zone; two of one type are told apart by their number."""
    found: dict[str, float] = {}
    for zone in _numbered(root / "sys/class/thermal", "thermal_zone"):
        value_c = scaled(number_in(zone / "temp"), 1e-3)
        if value_c is not None and COLDEST_C < value_c < HOTTEST_C:
            name = read(zone / "type").strip() or zone.name
            found[name if name not in found else f"{name} {zone.name}"] = value_c
    return found


def slowed(root: Path) -> tuple[str, ...]:
    """Cooling devices that slow the processor down at this moment."""
    found = []
    for device in _numbered(root / "sys/class/thermal", "cooling_device"):
        kind = read(device / "type").strip()
        state = number_in(device / "cur_state")
        if any(word in kind for word in _SLOWING) and state is not None and state > 0:
            found.append(kind)
    return tuple(sorted(set(found)))


def clocks_hz(root: Path) -> tuple[int, ...]:
    """What the kernel has set the cores to. A Raspberry Pi whose firmware throttles runs slower than this says."""
    cores = _numbered(root / "sys/devices/system/cpu", "cpu")
    found = (number_in(core / "cpufreq/scaling_cur_freq") for core in cores)
    return tuple(kilohertz * 1000 for kilohertz in found if kilohertz is not None and kilohertz > 0)


def governor(root: Path) -> str | None:
    """Of all cores; several are joined."""
    cores = _numbered(root / "sys/devices/system/cpu", "cpu")
    names = {read(core / "cpufreq/scaling_governor").strip() for core in cores} - {""}
    return ", ".join(sorted(names)) or None


def _stalled_s(line: str) -> float | None:
    fields = dict(field.partition("=")[::2] for field in line.split())
    return scaled(whole(fields.get("total", "")), 1e-6)


def _numbered(folder: Path, name: str) -> list[Path]:
    """Folders of `name` and a number, by that number."""
    numbers = {path: whole(path.name[len(name) :]) for path in folder.glob(f"{name}*")}
    return sorted((path for path, number in numbers.items() if number is not None), key=lambda path: numbers[path] or 0)
