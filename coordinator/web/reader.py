"""Reads what the live page shows, from the coordinator's database, its journal and the fleet's registry.

All of it belongs to one thread. The coordinator's files are only read; while nobody has written to them, what was read
before holds, so that looking every second costs little.

A device is late when it has not answered although it has had half as long again as those that have, as soon as half of
the cohort has answered; or when the deadline is over.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from coordinator import config as configs
from coordinator import journal as journals
from coordinator import pause
from coordinator.config import CoordinatorConfig
from coordinator.enrolment.registry import Registry
from coordinator.enrolment.services import Standing
from coordinator.events import RoundRecord
from coordinator.levels import load_history
from coordinator.plans import fleet_layout
from coordinator.rows import plan_of, ready_of, record_of, report_of
from coordinator.run import DATABASE
from coordinator.store import DeviceRow as StoredDevice
from coordinator.store import Store
from coordinator.web import state
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import RankfleetError, StoreError

LATE_FACTOR = 1.5
LOOK_BACK_ROUNDS = 20
"""Where the last report of each device is looked for when the page begins."""
_OBJECTIVES = ("round_s", "devices", "accuracy", "update_age_s")


class _Open(NamedTuple):
    """The open round: its devices' plans, who has answered, when it opened and when each answer came."""

    number: int
    plans: dict[str, bytes]
    answered: frozenset[str]
    opened_s: float | None
    answers_s: dict[str, float]


class Reader:
    """`run_dir` holds the run, `registry` opens the fleet's, `standing` says what the process of the rounds does."""

    def __init__(
        self, fleet: str, run_dir: Path, registry: Callable[[], Registry], standing: Callable[[], Standing]
    ) -> None:
        self._fleet = fleet
        self._run_dir = run_dir
        self._registry = registry
        self._standing = standing
        self._run: _RunReader | None = None
        self._known: Registry | None = None

    def read(self, now_s: float) -> state.Snapshot:
        """Everything as it is.

        Raises:
            RankfleetError: something cannot be read.
        """
        requests = {row.id: row for row in self._requests()}
        run = self._opened()
        standing = self._standing()
        if run is None:
            return state.Snapshot(self._fleet, state.Run(standing), requests=requests)
        return msgspec.structs.replace(run.read(standing, now_s), fleet=self._fleet, requests=requests)

    def close(self) -> None:
        """Lets the databases go."""
        if self._run is not None:
            self._run.close()
        if self._known is not None:
            self._known.close()
        self._run = self._known = None

    def _requests(self) -> Iterable[state.RequestRow]:
        self._known = self._known or self._registry()
        for one in self._known.requests():
            yield state.RequestRow(one.id, one.device, one.fingerprint, one.date_s)

    def _opened(self) -> _RunReader | None:
        """The run, once a coordinator was started on it; another one where the folder was replaced."""
        path = self._run_dir / DATABASE
        if self._run is not None and not self._run.is_of(path):
            self._run.close()
            self._run = None
        if self._run is None and path.exists():
            run = _RunReader(path)
            if run.is_begun:
                self._run = run
            else:
                run.close()
        return self._run


class _RunReader:
    """One run's database, read again where somebody has written to it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = path.stat().st_ino
        self._store = Store(path, read_only=True)
        self._journal: journals.Journal | None = None
        self._versions: tuple[int, ...] = ()
        self._rounds: dict[str, state.RoundRow] = {}
        self._closed = 0
        self._reports: dict[str, tuple[int, m.RoundReport]] = {}
        self._map: tuple[int, state.RankMap | None] = (-1, None)
        self._found: tuple[CoordinatorConfig, _Open | None, state.Snapshot] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether a coordinator has written its terms."""
        return self._store.get("config") is not None

    def is_of(self, path: Path) -> bool:
        """Whether this is still the database at `path`."""
        return path.exists() and path.stat().st_ino == self._inode

    def close(self) -> None:
        self._store.close()
        if self._journal is not None:
            self._journal.close()

    def read(self, standing: Standing, now_s: float) -> state.Snapshot:
        """Everything but the fleet's name and its requests."""
        self._open_journal()
        versions = tuple(one.data_version() for one in (self._store, self._journal) if one is not None)
        if self._found is None or versions != self._versions:
            self._versions = versions
            self._found = self._read_all()
        config, opened, found = self._found
        run = msgspec.structs.replace(found.run, service=standing)
        late = late_devices(config, opened, now_s)
        devices = found.devices
        if late:
            devices = {
                name: msgspec.structs.replace(row, late=True) if name in late else row for name, row in devices.items()
            }
        return msgspec.structs.replace(found, run=run, devices=devices)

    def _open_journal(self) -> None:
        path = self._path.with_name(journals.FILE)
        if self._journal is None and path.exists():
            self._journal = journals.Journal(path, read_only=True)

    def _read_all(self) -> tuple[CoordinatorConfig, _Open | None, state.Snapshot]:
        store = self._store
        config = configs.decode(store.get("config") or b"")
        self._read_rounds()
        opened = self._open_round()
        steps = {} if self._journal is None else self._journal.steps()
        devices = {row.name: self._device(row, opened, steps.get(row.name)) for row in store.devices()}
        found = state.Snapshot(
            config.fleet, self._standing(config, opened), _levels(store, config), self._rank_map(config), devices,
            dict(self._rounds),
        )  # fmt: skip
        return config, opened, found

    def _standing(self, config: CoordinatorConfig, opened: _Open | None) -> state.Run:
        word = pause.said(self._store)
        waiting = None if self._journal is None else self._journal.last("waiting")
        since = None if self._journal is None else self._journal.last("opened")
        over = self._closed >= config.round.rounds
        stale = waiting is None or (since is not None and since.date_s > waiting.date_s)
        return state.Run(
            "", config.round.rounds, self._closed,
            None if opened is None else opened.number,
            None if opened is None else opened.opened_s,
            config.round.deadline_s,
            0 if opened is None else len(opened.plans),
            0 if opened is None else len(opened.answered),
            "" if stale or over or waiting is None else waiting.text,
            word.paused, word.who, word.date,
        )  # fmt: skip

    def _read_rounds(self) -> None:
        before = self._closed
        for number, body in self._store.rounds(before):
            self._closed = number
            try:
                record = record_of(self._store, number, body)
            except StoreError:
                continue  # the coordinator logs it
            self._rounds[str(number)] = _round_row(record)
        for number in range(max(before, self._closed - LOOK_BACK_ROUNDS) + 1, self._closed + 1):
            self._read_reports(number)

    def _read_reports(self, number: int) -> None:
        for device, (_, body) in self._store.contributors(number).items():
            try:
                self._reports[device] = number, report_of(self._store, number, device, body)
            except StoreError:
                continue  # the coordinator logs it

    def _open_round(self) -> _Open | None:
        number = self._closed + 1
        plans = self._store.plans(number)
        if not plans:
            return None
        answered = frozenset(self._store.contributors(number))
        self._read_reports(number)
        opened = [] if self._journal is None else self._journal.of_round(number, "opened")
        came = [] if self._journal is None else self._journal.of_round(number, "received")
        answers_s = {line.device: line.date_s for line in came}
        return _Open(number, plans, answered, opened[-1].date_s if opened else None, answers_s)

    def _device(self, row: StoredDevice, opened: _Open | None, step: journals.Step | None) -> state.DeviceRow:
        note = row.note
        try:
            ready = ready_of(self._store, row)
        except StoreError as error:
            ready, note = None, str(error)
        number, report = self._reports.get(row.name, (None, None))
        pending = opened is not None and row.name in opened.plans and row.name not in opened.answered
        busy = step if pending and opened is not None and step is not None and step.round == opened.number else None
        return state.DeviceRow(
            online=row.online,
            part="pending" if pending else "answered" if opened is not None and row.name in opened.answered else "",
            late=False,
            examples=None if ready is None else ready.examples,
            holdout=None if ready is None else ready.holdout,
            budget_bytes=None if ready is None else ready.capability.budget_bytes,
            memory_bytes=None if ready is None else ready.capability.total_memory_bytes,
            peak_bytes=None if report is None else report.peak_anonymous_bytes,
            temperature_c=None if step is None else step.temperature_c,
            ranks=self._ranks(row.name, opened) if pending else None if report is None else report.ranks,
            version=None if ready is None else ready.version,
            phase="" if busy is None else busy.phase,
            step=None if busy is None else busy.step,
            steps=None if busy is None else busy.steps,
            note=note,
            answered_round=number,
        )

    def _ranks(self, device: str, opened: _Open | None) -> int | None:
        """As many as its plan has it train."""
        if opened is None:
            return None
        try:
            plan = plan_of(self._store, opened.number, device, opened.plans[device])
        except StoreError:
            return None  # it is made again
        return sum(byte.bit_count() for byte in plan.trained)

    def _rank_map(self, config: CoordinatorConfig) -> state.RankMap | None:
        """Of the last checkpoint; before the first round all ranks live."""
        if self._map[0] != self._closed:
            self._map = self._closed, _rank_map(config, self._store)
        return self._map[1]


def late_devices(config: CoordinatorConfig, opened: _Open | None, now_s: float) -> frozenset[str]:
    """Who is late in the open round."""
    if opened is None or opened.opened_s is None:
        return frozenset()
    pending = frozenset(opened.plans) - opened.answered
    open_s = now_s - opened.opened_s
    if open_s >= config.round.deadline_s:
        return pending
    took_s = [at_s - opened.opened_s for at_s in opened.answers_s.values()]
    if 2 * len(took_s) < len(opened.plans) or not took_s:
        return frozenset()
    return pending if open_s > LATE_FACTOR * statistics.median(took_s) else frozenset()


def _round_row(one: RoundRecord) -> state.RoundRow:
    return state.RoundRow(
        one.round, len(one.contributors), len(one.late), one.accuracy, one.loss, one.ranks_alive, one.updates_bytes,
        one.delta_bytes, one.wall_s, one.returned_to,
    )  # fmt: skip


def _levels(store: Store, config: CoordinatorConfig) -> tuple[state.Level, ...]:
    last = {change.name: change for change in load_history(store)}
    found = []
    for name in _OBJECTIVES:
        bound, change = float(getattr(config.objectives, name)), last.get(name)
        if not bound:
            continue
        if change is None:
            found.append(state.Level(name, bound, True, None, None))
        else:
            found.append(state.Level(name, bound, change.met, change.value, change.date))
    return tuple(found)


def _rank_map(config: CoordinatorConfig, store: Store) -> state.RankMap | None:
    try:
        layout = fleet_layout(config)
        checkpoint = store.checkpoint()
        mask = layout.full_mask() if checkpoint is None else states.from_bytes(checkpoint.state, layout).mask
    except RankfleetError:
        return None  # the pack was moved, or the checkpoint is damaged: the coordinator mends it at its next start
    names, blocks = zip(*((module.name, module.block) for module in layout.modules), strict=True)
    return state.RankMap(layout.slots, names, blocks, tuple(int(count) for count in mask.sum(axis=1)))
