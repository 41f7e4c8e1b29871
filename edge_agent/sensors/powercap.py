"""Energy counters of a processor (RAPL, of Intel and AMD), in `/sys/class/powercap`; root alone may read them.

Source: the kernel's Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from .text import number_in

_WHOLE_SYSTEM = "psys"
_COUNTED = ("package", "dram")
"""How the names of zones begin that add up: cores and graphics are part of their package, memory is not."""


class Zone(NamedTuple):
    """A counter in microjoules, which begins anew beyond `range_uj`."""

    name: str
    energy_uj: int
    range_uj: int


def zones(root: Path) -> Mapping[str, Zone]:
    """All counters that can be read, by their folder."""
    found: dict[str, Zone] = {}
    for folder in sorted((root / "sys/class/powercap").glob("*rapl:*")):
        energy_uj, range_uj = number_in(folder / "energy_uj"), number_in(folder / "max_energy_range_uj")
        if energy_uj is not None and range_uj is not None and 0 <= energy_uj <= range_uj:
            found[folder.name] = Zone(read(folder / "name").strip(), energy_uj, range_uj)
    return found


def counted(found: Mapping[str, Zone]) -> Sequence[str]:
    """The folders of zones that together are the system: `psys` where there is one, else packages and memory."""
    whole_system = [folder for folder, zone in found.items() if zone.name == _WHOLE_SYSTEM]
    return whole_system[:1] or [folder for folder, zone in found.items() if zone.name.startswith(_COUNTED)]


def spent_j(before: Mapping[str, Zone], after: Mapping[str, Zone]) -> float | None:
    """Energy between two readings; None where they have no counted zone in common.

    A counter that began anew is taken to have done so once.
    """
    common = [folder for folder in counted(before) if folder in after]
    if not common:
        return None
    spent_uj = 0
    for folder in common:
        change_uj = after[folder].energy_uj - before[folder].energy_uj
        spent_uj += change_uj if change_uj >= 0 else change_uj + before[folder].range_uj
    return spent_uj * 1e-6
