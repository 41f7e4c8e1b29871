"""The books beside a small run that a test plays, message by message, on a real database."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator import events, fleet_model
from coordinator.fleet_model import FleetModel, Rules
from coordinator.store import Contribution, Store
from edge_agent.wire import codec, frame
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.pack import module_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import pack_mask
from profiling.soak.faults import Fault
from profiling.soak.ledger import STALLED_S, Ledger
from profiling.soak.settings import CLASSES, DEADLINE_S, GRACE_S, SLOTS, Settings, write_pack
from profiling.soak.training import Trained, train

SETTINGS = Settings(devices=4, rounds=5)
DEVICES = ("device-000", "device-001", "device-002", "device-003")


class Played:
    """A coordinator by hand, with a ledger beside it."""

    def __init__(self, folder: Path) -> None:
        self.layout = module_layout(write_pack(folder / "pack"), SLOTS, len(CLASSES))
        self.store = Store(folder / "coordinator.db")
        self.ledger = Ledger(SETTINGS, self.layout, folder / "coordinator.db")
        self.model: FleetModel = fleet_model.start(self.layout, SETTINGS.seed)
        self.number = 1

    def trains(self, device: str, draws: int = 0, fault: Fault | None = None) -> Trained:
        """The device makes an update."""
        state = self.model.state
        mask = pack_mask(state.mask)
        plan = m.Plan(self.number, 5, state.version, (), states.digest(state), "train", mask, 6, 0, DEADLINE_S, 0)
        generator = np.random.default_rng([draws, DEVICES.index(device), self.number])
        made = train(plan, state, self.layout.empty_rows(), generator, fault)
        self.ledger.made(device, made)
        return made

    def stores(self, device: str, made: Trained) -> None:
        report = msgspec.msgpack.encode(made.report)
        self.store.keep_contribution(self.number, Contribution(device, made.sha256, report, made.body, self.number))

    def acknowledges(self, device: str, made: Trained) -> None:
        self.ledger.published(device, frame.encode(m.Acknowledged(made.round, made.sha256), 1, 1))

    def closes(self, *, examples: int = 0, now_s: float = 1.0, twice: str | None = None) -> None:
        """The round closes with what is stored; `examples` more than there are, `twice` one device's update."""
        names = tuple(self.store.contributors(self.number))
        bodies = [self.store.contribution_body(self.number, twice or name) for name in names]
        limit_bytes = codec.update_limit_bytes(self.layout)
        updates = [codec.decode_update(body, self.layout, limit_bytes=limit_bytes) for body in bodies]
        rules = Rules(self.layout.ranks - self.number, 0.5, find_scheme("int8"))
        closing = fleet_model.close_round(self.model, updates, 1.0, rules)
        reports = [msgspec.msgpack.decode(one, type=m.RoundReport) for _, one in self._stored()]
        record = events.RoundRecord(
            round=self.number, version=self.number, contributors=names,
            examples=examples + sum(one.examples for one in reports), loss=1.0, accuracy=0.8,
            ranks_alive=int(closing.model.state.mask.sum()), modules_alive=2, budget_ranks=rules.budget_ranks,
            needed_ranks=1, agreement=0.0, updates_bytes=1, delta_bytes=1, wall_s=1.0,
        )  # fmt: skip
        checkpoint = fleet_model.to_checkpoint(closing.model)
        self.store.close_round(self.number, checkpoint, closing.delta, msgspec.json.encode(record))
        self.model = closing.model
        self.number += 1
        self.ledger.told(events.Closed(record), now_s)

    def _stored(self) -> list[tuple[bytes, bytes]]:
        return list(self.store.contributors(self.number).values())

    def a_round(self) -> dict[str, Trained]:
        """A round as it should be."""
        made = {device: self.trains(device) for device in DEVICES}
        for device, one in made.items():
            self.stores(device, one)
            self.acknowledges(device, one)
        self.closes()
        return made

    def finishes(self) -> list[str]:
        self.ledger.finish({device: states.digest(self.model.state) for device in DEVICES})
        return self.ledger.violations


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path)


def test_a_run_as_it_should_be_agrees_with_the_books(played: Played) -> None:
    for _ in range(SETTINGS.rounds):
        played.a_round()
    assert played.finishes() == []
    assert (played.ledger.updates, played.ledger.acknowledgements, played.ledger.averages) == (20, 20, 5)
    assert played.ledger.contributors == set(DEVICES) and played.ledger.digests == 4


def test_an_acknowledged_update_that_is_not_in_the_round_is_lost(played: Played) -> None:
    lost = played.trains(DEVICES[0])
    played.acknowledges(DEVICES[0], lost)
    played.stores(DEVICES[1], played.trains(DEVICES[1]))
    played.closes()
    assert played.ledger.violations == [f"round 1: the acknowledged update of {DEVICES[0]} is not in it"]


def test_an_update_that_is_acknowledged_after_its_round_closed_without_it_is_lost(played: Played) -> None:
    late = played.trains(DEVICES[0], draws=1)
    made = played.a_round()
    played.acknowledges(DEVICES[0], made[DEVICES[0]])
    assert played.ledger.violations == []
    played.acknowledges(DEVICES[0], late)
    (violation,) = played.ledger.violations
    assert violation == f"round 1: an update of {DEVICES[0]} was acknowledged, and is not in the closed round"


def test_two_acknowledged_updates_of_one_device_cannot_both_count(played: Played) -> None:
    for draws in (0, 1):
        played.acknowledges(DEVICES[0], played.trains(DEVICES[0], draws))
    assert played.ledger.violations == [f"round 1: two different updates of {DEVICES[0]} were acknowledged"]


def test_an_update_that_nobody_made_or_that_cannot_be_used_must_not_count(played: Played) -> None:
    played.stores(DEVICES[0], played.trains(DEVICES[0], fault=Fault.ABSURD))
    other = played.trains(DEVICES[2])
    played.stores(DEVICES[1], other)
    played.closes()
    assert f"round 1: an update of {DEVICES[0]} counts that cannot be used" in played.ledger.violations
    assert f"round 1: an update of {DEVICES[1]} counts that it never made" in played.ledger.violations


def test_an_update_that_counts_twice_in_the_average_or_in_two_rounds_is_found(played: Played) -> None:
    made = {device: played.trains(device) for device in DEVICES}
    for device, one in made.items():
        played.stores(device, one)
    played.closes(twice=DEVICES[0])
    (violation,) = played.ledger.violations
    assert violation.startswith("round 1: its average is")
    played.stores(DEVICES[0], made[DEVICES[0]])
    played.closes()
    assert f"round 2: an update of {DEVICES[0]} counts that counted before" in played.ledger.violations


def test_a_record_of_other_examples_than_its_updates_have_is_found(played: Played) -> None:
    played.stores(DEVICES[0], played.trains(DEVICES[0]))
    played.closes(examples=1)
    (violation,) = played.ledger.violations
    assert violation.startswith("round 1: its record has")


@pytest.mark.parametrize(("late_s", "violations"), [(0.0, 0), (2.0, 1)])
def test_a_round_with_its_quorum_closes_at_its_deadline(played: Played, late_s: float, violations: int) -> None:
    played.ledger.told(events.Opened(1, 5, DEVICES, 12, "train"), 100.0)
    for device in DEVICES[:2]:
        made = played.trains(device)
        played.stores(device, made)
        played.ledger.told(events.Received(device, 1, made.report), 110.0)
    played.closes(now_s=100.0 + DEADLINE_S + GRACE_S + 1.0 + late_s)
    assert len(played.ledger.violations) == violations


def test_a_run_in_which_no_round_closes_has_stalled(played: Played) -> None:
    played.a_round()
    assert not played.ledger.stalled(STALLED_S) and played.ledger.stalled(STALLED_S + 2)


def test_a_device_that_came_to_another_state_is_found(played: Played) -> None:
    played.ledger.caught_up(DEVICES[0], 3, bytes(32), bytes(32))
    assert played.ledger.violations == []
    played.ledger.caught_up(DEVICES[0], 3, bytes(32), b"x" * 32)
    assert played.ledger.violations == [f"{DEVICES[0]} came to another state at version 3 than the coordinator has"]


def test_what_changes_after_its_round_closed_is_found_at_the_end(played: Played) -> None:
    for _ in range(SETTINGS.rounds):
        played.a_round()
    with played.store._transaction() as db:
        db.execute("UPDATE round SET record = ? WHERE number = 2", (b"{}",))
        db.execute("DELETE FROM contribution WHERE round = 3 AND device = ?", (DEVICES[0],))
    assert played.finishes() == [
        "records of closed rounds are not what they were when these closed",
        "the updates of closed rounds are not what they were when these closed",
    ]


def test_a_run_that_ends_early_or_leaves_devices_out_is_found(played: Played) -> None:
    played.stores(DEVICES[0], played.trains(DEVICES[0]))
    played.closes()
    played.acknowledges(DEVICES[1], played.trains(DEVICES[1]))
    assert played.finishes() == [
        "1 updates were acknowledged of rounds that never closed",
        "1 rounds closed of 5",
        "3 devices are in no round at all",
    ]
