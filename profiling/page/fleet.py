"""The databases of a fleet that never was: devices, rounds and an open round, as a coordinator leaves them on disk."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coordinator import journal as journals
from coordinator.config import CoordinatorConfig, RoundSettings, encode
from coordinator.events import RoundRecord
from coordinator.run import DATABASE
from coordinator.store import Checkpoint, Contribution, DeviceRow, Store
from edge_agent.wire import messages as m

SPEED = m.Speed(1, (100.0, 30.0, 0.2), (200.0, 60.0, 0.5))
COST = m.CostTable(60_000_000, 9_000, 48, 30_000_000, 45_000_000, 1500.0, (SPEED,), 4)
PHASES = ("receive", "load", "train", "score", "compress")
STEPS = 40


@dataclass(frozen=True)
class Simulated:
    """`devices` devices after `rounds` closed rounds, with the next one open; drawn from `seed`."""

    run_dir: Path
    devices: int
    rounds: int
    pack: Path
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Of the devices."""
        return [f"board-{number:04d}" for number in range(self.devices)]

    def write(self) -> None:
        """Makes the databases."""
        draw, store = random.Random(self.seed), Store(self.run_dir / DATABASE)
        config = CoordinatorConfig(
            "simulated", self.pack, ("first", "second"), self.run_dir, round=RoundSettings(rounds=self.rounds + 10)
        )
        store.put(config=encode(config))
        for name in self.names:
            online = draw.random() < 0.93
            note = "" if draw.random() < 0.9 else "the connection was lost"
            store.keep_device(DeviceRow(name, 1, 9, online, msgspec.msgpack.encode(_ready(draw, self)), note))
        for number in range(1, self.rounds + 2):
            self._write_round(store, number, draw)
        store.close()
        journal = journals.Journal(self.run_dir / journals.FILE)
        opened = journals.Line(time.time() - 60, "opened", "", self.rounds + 1, "")
        journal.write([opened], [])
        journal.close()

    def _write_round(self, store: Store, number: int, draw: random.Random) -> None:
        """Half of the devices have answered the open round; of the closed ones the last has all reports."""
        is_open = number > self.rounds
        if is_open or number == self.rounds:
            for place, name in enumerate(self.names):
                if is_open:
                    store.keep_plan(number, name, msgspec.msgpack.encode(_plan(number, self.rounds)))
                if not is_open or place % 2:
                    report = msgspec.msgpack.encode(_report(draw))
                    store.keep_contribution(number, Contribution(name, bytes(32), report, b"update", number))
        if not is_open:
            record = msgspec.json.encode(_record(number, tuple(self.names)))
            store.close_round(number, Checkpoint(number, b"", b"", b""), b"", record)

    def stir(self, journal: journals.Journal, draw: random.Random, share: float = 0.1) -> None:
        """A second of training: some devices go on by a step."""
        chosen = draw.sample(self.names[::2], max(1, int(share * self.devices / 2)))
        steps = [
            journals.Step(
                name,
                time.time(),
                self.rounds + 1,
                "train",
                draw.randint(1, STEPS),
                STEPS,
                draw.random(),
                draw.uniform(40, 80),
            )
            for name in chosen
        ]
        journal.write([], steps)


def _ready(draw: random.Random, simulated: Simulated) -> m.Ready:
    capability = m.Capability(draw.choice((200, 400, 800)) * 2**20, draw.choice((1, 2, 4, 8)) * 2**30, 1_000_000, COST)
    return m.Ready(bytes(32), draw.randint(50, 900), draw.randint(5, 90), 64, simulated.rounds, capability)


def _plan(number: int, rounds: int) -> m.Plan:
    return m.Plan(number, rounds, number - 1, (), bytes(32), "train", b"\xff" * 36, 144, 0, 3600.0, 0)


def _report(draw: random.Random) -> m.RoundReport:
    peak_bytes = draw.randint(90, 180) * 1_000_000
    phases = tuple(
        m.Phase(name, draw.random() * 20, draw.random() * 20, peak_bytes, peak_bytes // 2, None, None, None)
        for name in PHASES
    )
    return m.RoundReport(
        300, STEPS, draw.random(), 40, 60, 4, 6, 3, 0, 64, draw.randint(60, 288), peak_bytes, peak_bytes, peak_bytes,
        23_000_000, 0.5, 0.5, 4_000_000, 9_000_000, 40_000_000, phases,
    )  # fmt: skip


def _record(number: int, names: tuple[str, ...]) -> RoundRecord:
    return RoundRecord(
        number, number, names, 300 * len(names), 2.0 / number, 1 - 0.7 / number, 288 - 4 * number, 72, 288 - 4 * number,
        None, None, 24_000 * len(names), 60_000, 240.0,
    )  # fmt: skip
