"""The file of recorded rounds: one line of JSON a round and phase, one a round, and one each time the agent starts.

It is a record for people, no state: it is not synced, a line that a power cut left half written is passed over, and a
disk that is full stops the record, not the agent. Two files are kept, the present one and the one before it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_agent.wire import messages as m
from edge_agent.wire.errors import StoreError
from edge_agent.wire.malformed import MALFORMED

LOGGER = logging.getLogger("rankfleet.agent")
NAME = "rounds.jsonl"
FORMER = "rounds.1.jsonl"
ROUND_LINES = 32
"""Lines of a round at the most, for the size to be bounded where a round is begun again and again."""


class Entry(msgspec.Struct, frozen=True, tag_field="kind"):
    """One line. `date` is its end, in UTC."""

    date: str


class DeviceEntry(Entry, frozen=True, tag="device"):
    """The agent started: on what, and with which settings. What the board does not tell is null."""

    device: str
    fleet: str
    model: str | None
    system: str | None
    kernel: str
    machine: str
    governor: str | None
    power_mode: str | None
    core_volts: float | None
    cores: int | None
    memory_bytes: int
    budget_bytes: int
    threads: int
    engine: str
    products: str
    version: str
    commit: str | None
    sample_s: float
    power_source: str | None


class PhaseEntry(Entry, frozen=True, tag="phase"):
    """One phase of a round; round 0 is what belongs to none. What cannot be measured is null, never 0.

    Memory is of supervisor and trainer together, faults and storage too; pressure, heat, clock and energy are of the
    whole board.
    """

    run: str | None
    round: int
    phase: str
    wall_s: float
    supervisor_cpu_s: float
    trainer_cpu_s: float | None
    """Null where no trainer runs."""
    peak_rss_bytes: int | None
    peak_anonymous_bytes: int | None
    file_bytes: int | None
    pss_bytes: int | None
    uss_bytes: int | None
    available_bytes: int | None
    """What the system could give at the end, without swapping."""
    group_bytes: int | None
    group_peak_bytes: int | None
    """Of the memory control group, since it was made."""
    cpu_stalled_s: float | None
    memory_stalled_s: float | None
    io_stalled_s: float | None
    """Pressure: how long some task waited for it."""
    minor_faults: int | None
    major_faults: int | None
    read_bytes: int | None
    written_bytes: int | None
    bytes_up: int | None
    bytes_down: int | None
    """On the socket."""
    temperature_c: float | None
    """The highest."""
    clock_hz: int | None
    """The lowest of the fastest core."""
    gpu_clock_hz: int | None
    """The lowest."""
    slowed: tuple[str, ...]
    """What held the board back."""
    energy_j: float | None
    power_w: float | None
    """The mean."""
    recording_cpu_s: float
    """What the record itself took of the processors, this line's writing left for the next."""


class RoundEntry(Entry, frozen=True, tag="round"):
    """The report that the round's update is offered with, without its phases."""

    run: str | None
    round: int
    report: m.RoundReport


AnyEntry = DeviceEntry | PhaseEntry | RoundEntry
_DECODER = msgspec.json.Decoder(AnyEntry)
_ENCODER = msgspec.json.Encoder()


class RoundLog:
    """Appends to the files in `folder`, for their owner alone to read."""

    def __init__(self, folder: Path, keep_rounds: int, device: DeviceEntry) -> None:
        """`keep_rounds` is how many rounds a file holds: with the one before it, so many are kept at least."""
        self._path, self._former = folder / NAME, folder / FORMER
        self._keep_rounds, self._device = keep_rounds, device
        self._works = True
        self._rounds = self._lines = 0
        self._last: tuple[str | None, int] | None = None
        for entry in _entries_of(self._path):
            self._count(entry)
        self.append(device)

    def append(self, entry: AnyEntry) -> None:
        """Writes one line. What cannot be written is said once, and not tried again."""
        if not self._works:
            return
        try:
            if self._is_full(entry):
                self._path.replace(self._former)
                self._rounds = self._lines = 0
                self._write(self._device)
            self._write(entry)
        except OSError as error:
            self._works = False
            LOGGER.warning("rounds are recorded no more: %s cannot be written (%s)", self._path, error.strerror)

    def _is_full(self, entry: AnyEntry) -> bool:
        if self._lines >= self._keep_rounds * ROUND_LINES:
            return True
        return self._is_new(entry) and self._rounds >= self._keep_rounds

    def _is_new(self, entry: AnyEntry) -> bool:
        return not isinstance(entry, DeviceEntry) and (entry.run, entry.round) != self._last

    def _count(self, entry: AnyEntry) -> None:
        self._lines += 1
        if not isinstance(entry, DeviceEntry):
            self._rounds += self._is_new(entry)
            self._last = entry.run, entry.round

    def _write(self, entry: AnyEntry) -> None:
        file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            os.write(file, (b"\n" if torn else b"") + _ENCODER.encode(entry) + b"\n")
        finally:
            os.close(file)
        self._count(entry)


def read_rounds(folder: Path) -> list[AnyEntry]:
    """All entries in a state folder, the oldest first.

    Raises:
        StoreError: there are none.
    """
    entries = [*_entries_of(folder / FORMER), *_entries_of(folder / NAME)]
    if not entries:
        raise StoreError(
            f"{folder / NAME} holds no recorded round: expected the state_dir of an agent that has run with "
            "recorder.enabled"
        )
    return entries


def _entries_of(path: Path) -> Iterator[AnyEntry]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:  # nothing was recorded yet
        return
    damaged = 0
    for line in lines:
        try:
            yield _DECODER.decode(line)
        except MALFORMED:
            damaged += 1
    if damaged:
        LOGGER.warning("%s: %d damaged lines are passed over", path, damaged)
