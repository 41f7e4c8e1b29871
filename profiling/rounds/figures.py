"""Figures of a phase and of a round, with their units, and how they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edge_agent.round_log import PhaseEntry
from profiling.rounds.load import Device

NONE = "-"
_MB = 1e6
ORDER = (
    "join", "fetch", "measure", "wait", "receive", "load", "evaluate", "train", "score", "compress", "commit", "exit",
    "publish", "finish",
)  # fmt: skip
"""Phases in the order in which they come."""


class Figure(NamedTuple):
    """One column: its heading with the unit, where its value is found, and how many digits it has."""

    name: str
    of: Callable[[PhaseEntry], float | None]
    digits: int


def _in_mb(name: str) -> Callable[[PhaseEntry], float | None]:
    return lambda entry: _scaled(getattr(entry, name), 1 / _MB)


def _in_kb(name: str) -> Callable[[PhaseEntry], float | None]:
    return lambda entry: _scaled(getattr(entry, name), 1e-3)


def _plain(name: str) -> Callable[[PhaseEntry], float | None]:
    return lambda entry: getattr(entry, name)


def _cpu_s(entry: PhaseEntry) -> float:
    return entry.supervisor_cpu_s + (entry.trainer_cpu_s or 0.0)


FIGURES = (
    Figure("wall s", _plain("wall_s"), 3),
    Figure("CPU s", _cpu_s, 3),
    Figure("peak RSS MB", _in_mb("peak_rss_bytes"), 1),
    Figure("peak anonymous MB", _in_mb("peak_anonymous_bytes"), 1),
    Figure("PSS MB", _in_mb("pss_bytes"), 1),
    Figure("major faults", _plain("major_faults"), 0),
    Figure("memory stalled s", _plain("memory_stalled_s"), 3),
    Figure("kB up", _in_kb("bytes_up"), 1),
    Figure("kB down", _in_kb("bytes_down"), 1),
    Figure("J", _plain("energy_j"), 2),
    Figure("W", _plain("power_w"), 2),
    Figure("hottest C", _plain("temperature_c"), 1),
)
"""What tables show and runs are compared by."""


def phases_of(device: Device) -> list[str]:
    """The phases that a device recorded, in their order."""
    found = {key.phase for key in device.phases}
    known = [name for name in ORDER if name in found]
    return [*known, *sorted(found - set(known))]


def values_of(device: Device, phase: str, figure: Figure, rounds: list[int]) -> list[float]:
    """Of one phase in those rounds, as far as they are known."""
    entries = (device.phases[key] for key in device.phases if key.phase == phase and key.round in rounds)
    return [value for value in map(figure.of, entries) if value is not None]


def written(value: float | None, digits: int) -> str:
    """A figure in a table; what is not known is a dash, never 0."""
    return NONE if value is None else f"{value:.{digits}f}"


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
