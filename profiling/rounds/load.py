"""Reads what devices recorded, and what their coordinator keeps of the same rounds."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from coordinator.events import RoundRecord
from coordinator.rows import records_of
from coordinator.store import Store
from edge_agent.round_log import FORMER, NAME, AnyEntry, DeviceEntry, PhaseEntry, RoundEntry, read_rounds
from edge_agent.wire.errors import ConfigError

DATABASE = "coordinator.db"
STATES = "agents/*/state"
_TIMES = (
    "wall_s", "supervisor_cpu_s", "trainer_cpu_s", "cpu_stalled_s", "memory_stalled_s", "io_stalled_s",
    "minor_faults", "major_faults", "read_bytes", "written_bytes", "bytes_up", "bytes_down", "energy_j",
    "recording_cpu_s",
)  # fmt: skip
"""What adds up where a phase of a round was begun more than once; of the rest the largest counts."""
_PEAKS = (
    "peak_rss_bytes", "peak_anonymous_bytes", "file_bytes", "pss_bytes", "uss_bytes",
    "group_bytes", "group_peak_bytes", "temperature_c",
)  # fmt: skip


class Key(NamedTuple):
    """One phase of one round."""

    round: int
    phase: str


@dataclass(frozen=True)
class Device:
    """One device's record of one run. `phases` are in the order of their first time."""

    name: str
    entry: DeviceEntry | None
    phases: Mapping[Key, PhaseEntry]
    rounds: Mapping[int, RoundEntry]

    @property
    def trained(self) -> list[int]:
        """Rounds in which it trained: those for statistics of the classes cost something else."""
        return [number for number, entry in self.rounds.items() if entry.report.steps > 0]

    def of_round(self, number: int) -> list[PhaseEntry]:
        """All phases of one round."""
        return [entry for key, entry in self.phases.items() if key.round == number]


@dataclass(frozen=True)
class Run:
    """Devices of one run, and what the coordinator recorded of its rounds, where its folder was given."""

    path: Path
    devices: tuple[Device, ...]
    records: tuple[RoundRecord, ...] = field(default=())


def load_run(path: Path) -> Run:
    """What is recorded in an agent's state folder, or in the folder of a demo, with all of its agents.

    Of several runs in one record the last counts.

    Raises:
        ConfigError: there is nothing recorded.
        StoreError: the coordinator's database cannot be read.
    """
    folders = sorted(folder for folder in (path, *path.glob(STATES)) if _has_record(folder))
    devices = tuple(_device(folder, read_rounds(folder)) for folder in folders)
    if not devices:
        raise ConfigError(
            f"{path} holds no record of rounds: expected an agent's state_dir with {NAME}, or the folder of "
            "`rankfleet demo`; agents record where recorder.enabled is true"
        )
    return Run(path, devices, tuple(_records(path)))


def _has_record(folder: Path) -> bool:
    return (folder / NAME).is_file() or (folder / FORMER).is_file()


def _records(path: Path) -> Iterator[RoundRecord]:
    if not (path / DATABASE).is_file():
        return
    store = Store(path / DATABASE, read_only=True)
    try:
        yield from records_of(store)
    finally:
        store.close()


def _device(folder: Path, entries: list[AnyEntry]) -> Device:
    known = [entry for entry in entries if isinstance(entry, DeviceEntry)]
    runs = [entry.run for entry in entries if not isinstance(entry, DeviceEntry) and entry.run is not None]
    last = runs[-1] if runs else None
    phases: dict[Key, PhaseEntry] = {}
    rounds: dict[int, RoundEntry] = {}
    for entry in entries:
        if isinstance(entry, PhaseEntry) and entry.run in (None, last):
            key = Key(entry.round, entry.phase)
            phases[key] = _joined(phases[key], entry) if key in phases else entry
        elif isinstance(entry, RoundEntry) and entry.run == last:
            rounds[entry.round] = entry
    name = known[-1].device if known else folder.name
    return Device(name, known[-1] if known else None, phases, rounds)


def _joined(one: PhaseEntry, other: PhaseEntry) -> PhaseEntry:
    """One phase that was begun twice. What one of them does not tell is not told of both."""
    sums = {name: _of_both(one, other, name, operator.add) for name in _TIMES}
    peaks = {name: _of_both(one, other, name, max) for name in _PEAKS}
    energy_j, wall_s = sums["energy_j"], sums["wall_s"]
    return msgspec.structs.replace(
        other,
        **sums,
        **peaks,
        clock_hz=_of_both(one, other, "clock_hz", min),
        gpu_clock_hz=_of_both(one, other, "gpu_clock_hz", min),
        available_bytes=_of_both(one, other, "available_bytes", min),
        slowed=tuple(dict.fromkeys((*one.slowed, *other.slowed))),
        power_w=None if energy_j is None or not wall_s else energy_j / wall_s,
    )


def _of_both(one: PhaseEntry, other: PhaseEntry, name: str, join: Callable[[Any, Any], Any]) -> Any:
    values = getattr(one, name), getattr(other, name)
    return None if None in values else join(*values)
