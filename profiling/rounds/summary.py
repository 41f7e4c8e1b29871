"""Tables of one run: what a phase costs, what a round costs, and on what board."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edge_agent.round_log import PhaseEntry, RoundEntry
from profiling.rounds.figures import FIGURES, NONE, phases_of, values_of, written
from profiling.rounds.load import Device
from profiling.table import Table

_MB = 1e6


def header_table(devices: Sequence[Device]) -> Table:
    """A column a device: board, system, settings, versions."""
    named = {
        "board": "model", "system": "system", "kernel": "kernel", "architecture": "machine", "governor": "governor",
        "power mode": "power_mode", "core volts": "core_volts",
        "cores": "cores", "threads": "threads", "engine": "engine", "products": "products",
        "memory, bytes": "memory_bytes", "budget, bytes": "budget_bytes", "version": "version", "commit": "commit",
        "power from": "power_source", "sampled every, s": "sample_s", "started": "date",
    }  # fmt: skip
    rows = [(name, *(_told(device, field) for device in devices)) for name, field in named.items()]
    return Table(("", *(device.name for device in devices)), rows, words=1 + len(devices))


def phase_table(device: Device) -> Table:
    """Medians over the rounds that trained, a row a phase; of what belongs to no round, its one value."""
    rows = []
    for phase in phases_of(device):
        of_no_round = all(key.round == 0 for key in device.phases if key.phase == phase)
        rounds = [0] if of_no_round else device.trained
        values = [values_of(device, phase, figure, rounds) for figure in FIGURES]
        if values[0]:
            cells = (_median(some, figure.digits) for some, figure in zip(values, FIGURES, strict=True))
            rows.append((phase, NONE if of_no_round else str(len(values[0])), *cells))
    return Table(("phase", "rounds", *(figure.name for figure in FIGURES)), rows)


def round_table(device: Device) -> Table:
    """A row a round: what was planned, and what came of it."""
    head = (
        "round", "steps", "micro-batch", "kept", "depth", "ranks", "down", "predicted MB", "measured MB",
        "predicted step s", "step s", "wall s", "J", "slowed by",
    )  # fmt: skip
    rows = [_round_cells(device, number) for number in sorted(device.rounds)]
    return Table(head, rows)


def budgeted_bytes(entry: RoundEntry) -> int:
    """What the budget bounds: anonymous memory, and the mapped working set."""
    return entry.report.peak_anonymous_bytes + entry.report.mapped_bytes


def total_of(entries: Sequence[PhaseEntry], name: str) -> float | None:
    """The sum of one figure, where all know it."""
    values = [getattr(entry, name) for entry in entries]
    return sum(values) if values and None not in values else None


def working(entries: Sequence[PhaseEntry]) -> list[PhaseEntry]:
    """The phases in which the device does something."""
    return [entry for entry in entries if entry.phase != "wait"]


def _round_cells(device: Device, number: int) -> tuple[str, ...]:
    entry, phases = device.rounds[number], device.of_round(number)
    report = entry.report
    busy = working(phases)
    slowed = dict.fromkeys(words for one in phases for words in one.slowed)
    return (
        str(number), str(report.steps), str(report.micro_batch), str(report.kept_blocks), str(report.depth),
        str(report.ranks), str(report.step_downs),
        written(report.predicted_bytes / _MB, 1), written(budgeted_bytes(entry) / _MB, 1),
        written(report.predicted_step_s, 3), written(report.step_s, 3),
        written(total_of(busy, "wall_s"), 2), written(total_of(busy, "energy_j"), 1), ", ".join(slowed) or NONE,
    )  # fmt: skip


def _median(values: Sequence[float], digits: int) -> str:
    return written(statistics.median(values) if values else None, digits)


def _told(device: Device, field: str) -> str:
    value = None if device.entry is None else getattr(device.entry, field)
    return NONE if value is None else str(value)
