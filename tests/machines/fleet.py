"""A real coordinator and real agents in one process and one thread, which take turns when a test says so.

Between them is the in-memory broker with faults, below them their databases, around them a clock that a test moves.
Only the trainer's process and the engine in it are replaced (see `training`). Whoever dies is dropped in the middle of
what it did, as by a SIGKILL: what was not committed is gone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from unittest import mock

from coordinator import events
from coordinator import round as rounds
from coordinator.config import CoordinatorConfig
from coordinator.desk import Desk
from coordinator.objects import Objects
from coordinator.plans import Planner
from coordinator.recovery import mend
from coordinator.run import DATABASE
from coordinator.server import Coordinator
from coordinator.store import Store
from edge_agent import memory, meter
from edge_agent.agent import Agent
from edge_agent.config import AgentConfig
from edge_agent.fetching import Fetcher
from edge_agent.store import Store as AgentStore
from edge_agent.wire import crash_points, frame, link, replay, topics
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.crash_points import Point
from edge_agent.wire.settings import BrokerSettings
from tests.agents import path_sha256, write_capability
from tests.machines.books import Books
from tests.machines.clock import Clock, installed
from tests.machines.faulty_link import FaultyBroker, FaultyLink
from tests.machines.training import DiedError, InProcess
from tests.models import tiny_pack
from tests.runs import FLEET
from tests.scripted import tiny_layout

EXAMPLES = {"pi-1": 3, "pi-2": 5, "pi-3": 11}
"""By device; no two sets of them have the same sum, so that a wrong weight shows."""
_SAMPLE = memory.Sample(10**8, 10**7)


@dataclass
class Board:
    """One device: its disk, and the agent that runs on it, if it does."""

    name: str
    settings: AgentConfig
    agent: Agent | None = None
    store: AgentStore | None = None
    runner: InProcess | None = None
    link: FaultyLink | None = None
    booted_s: float = 0.0
    dismissed: bool = False


class Fleet:
    """Everybody, and the turns that they take."""

    def __init__(self, folder: Path, config: CoordinatorConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.books = Books(config)
        self.broker = FaultyBroker(self.books.spy)
        self.random = Random(0)
        self.armed: dict[Point, int] = {}
        """Where somebody is to die, and at the how many-th time from now."""
        self.told: list[events.Watched] = []
        self.coordinator: Coordinator | None = None
        self.over = False
        """Whether the coordinator ended in peace."""
        self.missing: tuple[str, ...] = ()
        """Who had not confirmed the final model then."""
        self._store: Store | None = None
        self._link: FaultyLink | None = None
        self._booted_s = 0.0
        self._stack = ExitStack()
        self._stack.enter_context(installed(self.clock))
        self._stack.enter_context(mock.patch.object(crash_points, "reach", self._reach))
        # What this process uses of memory tells nothing here, and takes milliseconds to find out.
        self._stack.enter_context(mock.patch.object(meter.memory, "tree", lambda process: _SAMPLE))
        self._stack.enter_context(mock.patch.object(meter.memory, "proportional", lambda process: None))
        capabilities = {name: write_capability(folder / f"{name}.json", name) for name in EXAMPLES}
        self.boards = {
            name: Board(
                name, AgentConfig(name, FLEET, folder, folder / name, BrokerSettings(), capability=capabilities[name])
            )
            for name in EXAMPLES
        }

    def close(self) -> None:
        for board in self.boards.values():
            self.kill_device(board)
        self.kill_coordinator()
        self.books.close()
        self._stack.close()

    # Starts and deaths

    def start_coordinator(self) -> None:
        """As `coordinator.run` does, but for the broker."""
        store = Store(self.config.run_dir / DATABASE)
        objects = Objects(self.config.pack, store)
        assert mend(store, tiny_layout(), self.config.seed) is None, "no death damages what is on disk"
        planner = Planner(self.config, objects, store.run_id())
        self._link = self.broker.faulty_link(topics.COORDINATOR, (topics.every_up(FLEET),))
        self._store, self._booted_s, self.told, self.over = store, self.clock.now_s, [], False
        desk = Desk(FLEET, store, objects, self._link)
        self.clock.booted_s = self._booted_s
        watch, clock = self.told.append, self.clock.monotonic
        self.coordinator = Coordinator(self.config, store, desk, planner, self._link, watch, clock=clock)

    def kill_coordinator(self) -> None:
        self.coordinator = None
        if self._store is not None:
            self.broker.cut(topics.COORDINATOR)
            self._store.close()
            self._store = None
            self.books.audit()

    def start_device(self, board: Board) -> None:
        board.dismissed = False
        board.store = AgentStore(board.settings.state_dir / "agent.db")
        self.clock.booted_s = board.booted_s = self.clock.now_s
        board.agent = Agent(board.settings, board.store, lambda boot: self._connect(board, boot))
        board.runner = InProcess(EXAMPLES[board.name], self.books.training, self.clock.monotonic)
        board.agent._runner = board.runner  # type: ignore[assignment]

    def _connect(self, board: Board, boot: int) -> link.Link:
        will = frame.encode(m.Offline("the connection was lost"), boot, replay.WILL_SEQUENCE)
        topic = topics.up(FLEET, board.name)
        board.link = self.broker.faulty_link(board.name, (topics.down(FLEET, board.name),), link.Will(topic, will))
        return board.link

    def kill_device(self, board: Board) -> None:
        """Its power is gone: the broker sends its will."""
        board.agent = board.runner = None
        if board.store is not None:
            self._look_into_outbox(board)
            self.broker.cut(board.name)
            board.store.close()
            board.store = None

    def replace_disk(self, board: Board, *, with_pack: bool) -> None:
        """All that the device knew is gone; a prepared card has the pack on it."""
        self.kill_device(board)
        self.books.outboxes[board.name] = None
        shutil.rmtree(board.settings.state_dir, ignore_errors=True)
        if with_pack:
            pack = Fetcher(board.settings.state_dir).pack_dir(path_sha256(tiny_pack() / "manifest.json"))
            shutil.copytree(tiny_pack(), pack)

    def _reach(self, point: Point | None) -> None:
        if point in self.armed:
            self.armed[point] -= 1
            if not self.armed[point]:
                del self.armed[point]
                raise DiedError(point)

    # Turns

    def turn(self, after_s: float) -> None:
        """Time passes, the network carries what it has, and everybody does what there is to do."""
        self.clock.now_s += after_s
        self.broker.carry()
        self.everybody()

    def everybody(self) -> None:
        turns: list[Callable[[], None]] = [self._coordinator_turns]
        turns += [lambda board=board: self._device_turns(board) for board in self.boards.values()]
        self.random.shuffle(turns)
        for take in turns:
            take()

    def _coordinator_turns(self) -> None:
        coordinator, wire = self.coordinator, self._link
        if coordinator is None or wire is None:
            return
        self.clock.booted_s = self._booted_s
        try:
            coordinator._turn()
            while not wire.idle:
                coordinator._turn()
        except DiedError:
            self.kill_coordinator()
            return
        self.books.audit()
        self._check_reason(coordinator)
        if coordinator._farewell.over(self.clock.monotonic()):
            self.missing = coordinator._farewell.missing()
            wire.close()
            self.kill_coordinator()
            self.over = True

    def _device_turns(self, board: Board) -> None:
        if board.agent is None or board.link is None:
            return
        self.clock.booted_s = board.booted_s
        try:
            board.agent._turn()
            while board.agent._exit is None and not board.link.idle:
                board.agent._turn()
        except DiedError:
            self.kill_device(board)
            return
        self._look_into_outbox(board)
        if board.agent._exit is not None:
            board.dismissed = board.agent._exit.failure is None
            board.agent.close()
            self.kill_device(board)

    def _look_into_outbox(self, board: Board) -> None:
        assert board.store is not None
        outgoing = board.store.outgoing()
        self.books.outbox(board.name, None if outgoing is None else (outgoing.round, outgoing.sha256))

    def _check_reason(self, coordinator: Coordinator) -> None:
        """Who waits says for what, to whoever watches."""
        state = coordinator._round
        late = self.clock.monotonic() - state.since_s >= state.settings.deadline_s
        if state.phase is rounds.Phase.GATHERING or (state.phase is rounds.Phase.OPEN and late):
            assert state.waiting, f"it waits in silence: {state}"
        if state.waiting:
            said = [event.reason for event in self.told if isinstance(event, events.Waiting)]
            assert said and said[-1] == state.waiting

    def model_of(self, board: Board) -> tuple[int, bytes]:
        """Version and digest of what a device that is off has on its disk."""
        store = AgentStore(board.settings.state_dir / "agent.db", read_only=True)
        model = store.model()
        store.close()
        assert model is not None
        return model.version, states.digest(states.from_bytes(model.state, tiny_layout()))
