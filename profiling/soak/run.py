"""Runs a soak: the coordinator's process, its devices, everything that happens to them, and the books beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from coordinator import events
from coordinator.run import DATABASE
from coordinator.store import Store
from edge_agent.wire import topics
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import module_layout

from .agenda import Agenda
from .device import Device, World
from .faults import PER_DEVICE_S, Fault, Faults
from .gateway import Gateway
from .host import FromHost, MakeStore, Over, Published, Start, Told, Used
from .ledger import Ledger
from .network import MAX_PAYLOAD_BYTES, FaultyLink, Network
from .report import Outcome, make_outcome
from .settings import CLASSES, DEADLINE_S, FLEET, SLOTS, Settings, coordinator_config, write_pack
from .training import States

SPOOL = "spool"
TICK_S = 2.0
_DOWN_S = (0.0, 20.0)
"""How long the coordinator is gone after it was killed."""
_CUT_S = (1.0, 60.0)
_SILENT_S = (10.0, 4 * DEADLINE_S)

Progress = Callable[[int, float], None]
"""Told of every closed round: its number, and the seconds since the start."""


def run(settings: Settings, folder: Path, progress: Progress, store: MakeStore = Store) -> Outcome:
    """Runs a soak in `folder`, which is to be empty; `store` makes the coordinator's database.

    Raises:
        StoreError: the folder cannot be used.
    """
    with _quiet():
        soak = Soak(settings, folder, progress, store)
        try:
            soak.run()
        except RankfleetError as error:
            soak.ledger.violation(str(error))
        finally:
            soak.gateway.stop()
        return soak.outcome()


@contextmanager
def _quiet() -> Iterator[None]:
    """Transfers over bad links warn a person of what is wrong on purpose here."""
    logger = logging.getLogger("rankfleet.wire")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class Soak:
    """One soak."""

    def __init__(self, settings: Settings, folder: Path, progress: Progress, store: MakeStore) -> None:
        self._settings = settings
        self._config = coordinator_config(settings, folder)
        layout = module_layout(write_pack(self._config.pack), SLOTS, len(CLASSES))
        self._config.run_dir.mkdir(parents=True, exist_ok=True)
        self._agenda, self._faults = Agenda(), Faults(settings.seed, settings.fault_rate)
        self.ledger = Ledger(settings, layout, self._config.run_dir / DATABASE)
        self.gateway = Gateway(self._agenda, self._faults)
        self._network = Network(self._agenda, self._faults, self._arrived)
        states = States(layout, settings.seed)
        world = World(settings.seed, self._agenda, self._faults, self._network, states, self.ledger)
        self._progress = progress
        self._store = store
        self._begun_s = time.perf_counter()
        self._used: list[Used] = []
        self._walls_s: list[float] = []
        self._over: Over | None = None
        self._wire: FaultyLink | None = None
        self._devices: dict[str, Device] = {}
        for index in range(settings.devices):
            device = Device(index, world)
            self._devices[device.name] = device
            self._agenda.after(TICK_S * index / settings.devices, partial(self._tick, device))
        for fault in PER_DEVICE_S:
            self._expect(fault)

    def run(self) -> None:
        """Until the run of the coordinator is over, or a law was broken."""
        while self._over is None and not self.ledger.violations:
            wire = self._start()
            while self._turn(wire):
                pass
            if self._over is None:
                self.ledger.look()
                self._network.broker.cut(topics.COORDINATOR)
                self._agenda.run_until(self._agenda.now_s + self._faults.random.uniform(*_DOWN_S))
        self._agenda.run_until(self._agenda.now_s + DEADLINE_S)
        if not self.ledger.violations:
            kept = ((one.name, *one.finished) for one in self._devices.values() if one.finished is not None)
            final = self._settings.rounds
            self.ledger.finish({name: digest for name, version, digest in kept if version == final})

    def outcome(self) -> Outcome:
        """What is to be told."""
        wall_s = time.perf_counter() - self._begun_s
        missing = len(self._over.missing) if self._over is not None else 0
        return make_outcome(
            self._settings, self.ledger, self._faults, tuple(self._used), tuple(self._walls_s),
            ends=(wall_s, self._agenda.now_s, self.gateway.lives, missing),
        )  # fmt: skip

    # The coordinator

    def _start(self) -> FaultyLink:
        now_s = self._agenda.now_s
        self._wire = self._network.connect_coordinator()
        self.ledger.started(now_s)
        start = Start(self._config, self._config.run_dir / SPOOL, MAX_PAYLOAD_BYTES, now_s, self._store)
        self.gateway.start(start, self._settings, self.ledger.closed)
        return self._wire

    def _turn(self, wire: FaultyLink) -> bool:
        """What the coordinator does until it listens again; False where it is gone."""
        said, listens = self.gateway.hear()
        for message in said:
            self._hear(wire, message)
        if self.ledger.stalled(self._agenda.now_s):
            self.ledger.violation(f"no round has closed for long after round {self.ledger.closed}")
        if not listens or self._over is not None or self.ledger.violations:
            return False
        self.gateway.answer(wire)
        return True

    def _hear(self, wire: FaultyLink, message: FromHost) -> None:
        if isinstance(message, Published):
            self._published(wire, message)
        elif isinstance(message, Told):
            self._told(message)
        elif isinstance(message, Used):
            self._used.append(message)
        else:
            self._over = message

    def _published(self, wire: FaultyLink, message: Published) -> None:
        device = topics.device_of(message.topic)
        if message.topic == topics.down(FLEET, device):
            self.ledger.published(device, message.payload)
        wire.publish(message.topic, message.payload)

    def _told(self, message: Told) -> None:
        event = msgspec.json.decode(message.event, type=events.AnyEvent)
        self.ledger.told(event, self._agenda.now_s)
        if isinstance(event, events.Closed):
            elapsed_s = time.perf_counter() - self._begun_s
            self._walls_s.append(elapsed_s)
            self._progress(event.record.round, elapsed_s)

    # The devices, and what happens to them

    def _arrived(self, device: str) -> None:
        self._devices[device].turn()

    def _tick(self, device: Device) -> None:
        device.turn()
        if not device.gone:
            self._agenda.after(TICK_S, partial(self._tick, device))

    def _expect(self, fault: Fault) -> None:
        self._agenda.after(self._faults.pause_s(fault, self._settings.devices), partial(self._happens, fault))

    def _happens(self, fault: Fault) -> None:
        random = self._faults.random
        device = random.choice(list(self._devices.values()))
        if fault is Fault.REPLAYED:
            self._network.replay()
        elif fault is Fault.GARBLED:
            self._network.garble(device.name)
        elif fault is Fault.COORDINATOR_CUT:
            self._cut_coordinator(random.uniform(*_CUT_S))
        else:
            self._strike(device, fault)
        self._expect(fault)

    def _strike(self, device: Device, fault: Fault) -> None:
        random = self._faults.random
        self._faults.note(fault)
        if fault is Fault.CUT:
            device.cut(random.uniform(*_CUT_S))
        elif fault is Fault.SILENT:
            device.fall_silent(random.uniform(*_SILENT_S))
        else:
            device.reboot(wiped=fault is Fault.WIPED)

    def _cut_coordinator(self, pause_s: float) -> None:
        self._faults.note(Fault.COORDINATOR_CUT)
        broker = self._network.broker
        broker.cut(topics.COORDINATOR)
        wire = self._wire
        self._agenda.after(pause_s, lambda: broker.restore(topics.COORDINATOR) if wire is self._wire else None)
