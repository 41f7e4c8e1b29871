"""What may happen to a fleet, as rules that Hypothesis draws: every fault of its links and its parts."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from coordinator.config import FallbackSettings, HeadSettings, RoundSettings
from coordinator.round import Phase, State
from edge_agent.wire import topics
from edge_agent.wire.crash_points import Point
from tests.machines.faulty_link import GOOD, Quality
from tests.machines.fleet import EXAMPLES, Board, Fleet
from tests.machines.training import InProcess
from tests.scripted import make_config

QUORUM = 2
DEADLINE_S = 120.0
GRACE_S = 20.0
GATHER_S = 40.0
MOST_S = 900.0
"""Simulated time within which a fleet without faults ends its run: far less than it needs."""
SHM = Path("/dev/shm")
"""Databases there are as durable as a test that kills no machine can tell, and no write waits for a disk."""

HeadStart = Literal["seed", "discriminant"]
NAMES = st.sampled_from(sorted(EXAMPLES))
QUALITIES = st.sampled_from(
    [
        GOOD,
        GOOD,
        Quality(lost=0.3),
        Quality(lost=0.8),
        Quality(twice=0.3, late=0.2),
        Quality(late=0.5, reordered=True),
        Quality(lost=0.2, twice=0.2, late=0.3, congested=0.1, reordered=True),
    ]
)
LOGGER = logging.getLogger("rankfleet")
POINTS = st.sampled_from([point for point in Point if point is not Point.TRAINER_STEPPED])


class Interleavings(RuleBasedStateMachine):
    """A fleet of three in a run of a few rounds. The end of every example is the end of its faults, and of its run."""

    def __init__(self) -> None:
        super().__init__()
        self.level = LOGGER.level
        LOGGER.setLevel(logging.CRITICAL)
        self.folder = Path(tempfile.mkdtemp(dir=SHM if SHM.is_dir() else None))
        self.fleet: Fleet | None = None

    @initialize(
        rounds=st.integers(2, 3),
        cohort=st.sampled_from([0, 0, 2]),
        over_selection=st.sampled_from([1.0, 1.5]),
        late_rounds=st.sampled_from([0, 2]),
        head=st.sampled_from(["seed", "seed", "discriminant"]),
        packs=st.sampled_from([True, True, True, False]),
        seconds=st.integers(0, 12),
        leaving=st.permutations(sorted(EXAMPLES)),
    )
    def start(
        self,
        *,
        rounds: int,
        cohort: int,
        over_selection: float,
        late_rounds: int,
        head: HeadStart,
        packs: bool,
        seconds: int,
        leaving: list[str],
    ) -> None:
        """Some examples begin in the middle of a round, so that all of their steps are spent there."""
        self.leaving = tuple(leaving)
        config = make_config(self.folder / "run")
        settings = RoundSettings(
            rounds=rounds,
            expected=len(EXAMPLES),
            gather_s=GATHER_S,
            quorum=QUORUM,
            deadline_s=DEADLINE_S,
            grace_s=GRACE_S,
            cohort=cohort,
            over_selection=over_selection,
            late_rounds=late_rounds,
        )
        config = msgspec.structs.replace(
            config, round=settings, head=HeadSettings(head), fallback=FallbackSettings(margin=0.0)
        )
        self.fleet = Fleet(self.folder, config)
        self.fleet.start_coordinator()
        for board in self.fleet.boards.values():
            self.fleet.replace_disk(board, with_pack=packs)
            self.fleet.start_device(board)
        for _ in range(2 * seconds):
            self.fleet.turn(0.5)

    @property
    def it(self) -> Fleet:
        assert self.fleet is not None
        return self.fleet

    def board(self, name: str) -> Board:
        return self.it.boards[name]

    def off(self) -> list[Board]:
        return [board for board in self.it.boards.values() if board.agent is None]

    def unreachable(self) -> list[str]:
        """Who runs without a connection."""
        running = [board.name for board in self.it.boards.values() if board.agent is not None]
        if self.it.coordinator is not None:
            running.append(topics.COORDINATOR)
        return [client for client in running if not self.it.broker.is_connected(client)]

    # The link

    @rule(
        turns=st.integers(1, 24),
        after_s=st.sampled_from([0.05, 0.5, 0.5, 2.0]),
        quality=QUALITIES,
        seed=st.integers(0, 2**16),
    )
    def let_them_talk(self, turns: int, after_s: float, quality: Quality, seed: int) -> None:
        self.it.broker.quality, self.it.broker.random, self.it.random = quality, Random(seed), Random(seed + 1)
        for _ in range(turns):
            self.it.turn(after_s)
        self.it.broker.quality = GOOD

    @rule(seconds=st.sampled_from([GRACE_S / 2, GRACE_S, DEADLINE_S / 2, DEADLINE_S]), carried=st.booleans())
    def let_time_pass(self, seconds: float, carried: bool) -> None:
        """The network carries nothing for so long; what is sent meanwhile comes afterwards, or never."""
        for _ in range(10):
            self.it.clock.now_s += seconds / 10
            self.it.everybody()
        if not carried:
            self.it.broker.waiting.clear()

    @precondition(lambda self: self.it.broker.waiting)
    @rule(place=st.integers(0, 40), fate=st.sampled_from(["now", "lost", "twice", "held"]))
    def choose_what_becomes_of_a_message(self, place: int, fate: str) -> None:
        waiting = self.it.broker.waiting
        message = waiting.pop(place % len(waiting))
        if fate == "held":
            self.it.broker.held.append(message)
        elif fate != "lost":
            for _ in range(2 if fate == "twice" else 1):
                self.it.broker.arrive(message)
            self.it.everybody()

    @precondition(lambda self: self.it.broker.held)
    @rule()
    def let_go_what_was_held(self) -> None:
        held, self.it.broker.held = self.it.broker.held, []
        for message in held:
            self.it.broker.arrive(message)
        self.it.everybody()

    @rule(client=NAMES | st.just(topics.COORDINATOR), forgets=st.booleans())
    def cut(self, client: str, forgets: bool) -> None:
        self.it.broker.cut(client)
        if forgets:
            self.it.broker.forget(client)

    @precondition(lambda self: self.unreachable())
    @rule(place=st.integers(0, 3))
    def reconnect(self, place: int) -> None:
        clients = self.unreachable()
        self.it.broker.restore(clients[place % len(clients)])

    @rule(client=NAMES | st.just(topics.COORDINATOR), seconds=st.sampled_from([0.5, 5.0]), forgets=st.booleans())
    def interrupt(self, client: str, seconds: float, forgets: bool) -> None:
        """A connection breaks and comes back."""
        self.cut(client, forgets)
        self.it.turn(seconds)
        if client in self.unreachable():
            self.it.broker.restore(client)
        self.it.everybody()

    @rule()
    def restart_the_broker(self) -> None:
        for client in (*EXAMPLES, topics.COORDINATOR):
            self.it.broker.cut(client)
        self.it.broker.waiting.clear()
        for client in self.unreachable():
            self.it.broker.restore(client)

    # Deaths

    @rule(point=POINTS, times=st.integers(1, 3))
    def arm(self, point: Point, times: int) -> None:
        """Whoever gets there dies there."""
        self.it.armed[point] = times

    @precondition(lambda self: self.it.coordinator is not None)
    @rule()
    def kill_coordinator(self) -> None:
        self.it.kill_coordinator()

    @rule()
    def restart_coordinator(self) -> None:
        self.it.kill_coordinator()
        self.it.start_coordinator()

    @precondition(lambda self: self.it.coordinator is None and not self.it.over)
    @rule()
    def start_coordinator(self) -> None:
        self.it.start_coordinator()

    @rule(name=NAMES)
    def kill_device(self, name: str) -> None:
        self.it.kill_device(self.board(name))

    @precondition(lambda self: self.off())
    @rule(place=st.integers(0, 2))
    def start_device(self, place: int) -> None:
        off = self.off()
        self.it.start_device(off[place % len(off)])

    @rule(name=NAMES)
    def reboot_device(self, name: str) -> None:
        self.it.kill_device(self.board(name))
        self.it.start_device(self.board(name))

    @rule(name=NAMES, with_pack=st.booleans())
    def replace_disk(self, name: str, with_pack: bool) -> None:
        self.it.books.replaced.add(name)
        self.it.replace_disk(self.board(name), with_pack=with_pack)
        self.it.start_device(self.board(name))

    # Training

    @rule(name=NAMES, seconds=st.sampled_from([0.1, 1.0, 10.0, 30.0, 150.0]))
    def train_so_long(self, name: str, seconds: float) -> None:
        """From the next job on."""
        runner = self.board(name).runner
        if runner is not None:
            runner.duration_s = seconds

    @rule(name=NAMES)
    def refuse(self, name: str) -> None:
        """The next job ends with a refusal."""
        runner = self.board(name).runner
        if runner is not None:
            runner.refuses = True

    @precondition(lambda self: self.at_work())
    @rule(place=st.integers(0, 2))
    def kill_trainer(self, place: int) -> None:
        runners = self.at_work()
        runners[place % len(runners)].kill()

    def at_work(self) -> list[InProcess]:
        runners = [board.runner for board in self.it.boards.values()]
        return [runner for runner in runners if runner is not None and runner.job is not None]

    @rule(days=st.sampled_from([-10_000, -1, 1, 10_000]))
    def set_the_date(self, days: int) -> None:
        """No deadline goes by it."""
        self.it.clock.date_s += days * 86_400

    # The end

    def teardown(self) -> None:
        try:
            if self.fleet is not None and sys.exc_info()[0] is None:
                self.end()
        finally:
            if self.fleet is not None:
                self.fleet.close()
            shutil.rmtree(self.folder)
            LOGGER.setLevel(self.level)

    def end(self) -> None:
        """Without a quorum it says why it waits; with one it comes to its end; with all they hold the same model."""
        self.heal(absent=self.leaving[: len(EXAMPLES) - QUORUM + 1])
        self.run_for(GATHER_S + 2 * DEADLINE_S)  # a round may be waiting for its deadline, and the next one open
        if not self.it.over:
            self.check_reason()
        self.heal(absent=self.leaving[: len(EXAMPLES) - QUORUM])
        self.run_for(MOST_S)
        assert self.it.over, f"the run does not end: {self.state()}"
        self.it.turn(0.5)  # the last farewells come, or they would be heard by whoever starts again
        self.heal(absent=())
        self.run_for(MOST_S)
        assert self.it.over, f"the farewell does not end: {self.state()}"
        astray = set(self.it.missing) - self.it.books.replaced  # a pack may take longer than the farewell
        assert not astray, f"{astray} did not come to the final model"
        self.check_end()

    def check_reason(self) -> None:
        state = self.state()
        assert state is not None
        assert state.phase is Phase.FINISHED or state.waiting, f"no quorum, and no reason given: {state}"

    def check_end(self) -> None:
        books, rounds = self.it.books, self.it.config.round.rounds
        assert len(books.records) == rounds
        assert set(books.acknowledged.values()) <= books.counted
        known = {row.name for row in books.store.devices() if row.ready is not None}
        for name, board in self.it.boards.items():
            if name in known - books.replaced:
                assert self.it.model_of(board) == (rounds, books.digests[rounds])

    def state(self) -> State | None:
        return None if self.it.coordinator is None else self.it.coordinator._round

    def heal(self, absent: Sequence[str]) -> None:
        """No more faults, and everybody but the absent is back."""
        it = self.it
        it.armed.clear()
        it.broker.heal()
        if it.coordinator is None:
            it.start_coordinator()
        it.broker.restore(topics.COORDINATOR)
        for name, board in it.boards.items():
            if name in absent:
                it.kill_device(board)
                continue
            if board.agent is None:
                it.start_device(board)
            it.broker.restore(name)
            assert board.runner is not None
            board.runner.duration_s, board.runner.refuses = 1.0, False

    def run_for(self, seconds: float) -> None:
        until_s = self.it.clock.now_s + seconds
        while self.it.clock.now_s < until_s and not self.it.over:
            self.it.turn(0.5 if self.it.broker.waiting else 2.5)
