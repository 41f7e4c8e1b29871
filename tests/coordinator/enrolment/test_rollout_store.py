"""Rollouts outlive the process, and two processes may look after them at the same time."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pytest

from coordinator.enrolment import rollout as r
from coordinator.enrolment.rollout_store import RolloutDesk, RolloutStore
from edge_agent.wire.errors import ConfigError, EnrolmentError, StoreError
from edge_agent.wire.updates import Facts, UpdateReport

FACTS = Facts("1.0", "aarch64", "3.11")
NAME = "rankfleet-agent-1.1-aarch64-cp311.tar"
AGENT = r.Release("agent", "1.1", (r.Bundle(NAME, "a" * 64, 1000, "aarch64", "3.11"),))
PACK = r.Release("pack", "0123", (r.Bundle("rankfleet-pack-0123.tar", "b" * 64, 1000),))
TERMS = r.Terms(0.9, 100.0, 1000.0)
GROUPS = (("a",), ("b", "c"))


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> RolloutStore:
    return RolloutStore(tmp_path / "rollouts.db", clock)


def said(outcome: str, number: int = 1, release: str = NAME) -> UpdateReport:
    return UpdateReport("1.1", "aarch64", "3.11", release, number, outcome)  # type: ignore[arg-type]


def test_a_rollout_goes_on_after_a_restart(store: RolloutStore, clock: Clock, tmp_path: Path) -> None:
    store.start(AGENT, TERMS, GROUPS)
    assert store.release_for("a", FACTS) is not None
    store.take_report("a", said("installed"))
    store.close()
    clock.now_s += 100.0
    again = RolloutStore(tmp_path / "rollouts.db", clock)
    order = again.release_for("b", FACTS)
    assert order is not None
    assert (order.name, order.rollout) == (NAME, 1)


def test_a_clock_that_was_set_back_does_not_hold_a_rollout_up(store: RolloutStore, clock: Clock) -> None:
    store.start(AGENT, TERMS, GROUPS)
    store.release_for("a", FACTS)
    store.take_report("a", said("installed"))
    clock.now_s -= 500_000.0
    store.entries()
    clock.now_s += 500_100.0
    assert store.release_for("b", FACTS) is not None


def test_a_report_that_comes_twice_counts_once(store: RolloutStore, clock: Clock) -> None:
    store.start(AGENT, TERMS, GROUPS)
    store.take_report("a", said("installed"))
    before = store.entries()
    clock.now_s += 1.0
    store.take_report("a", said("installed"))
    assert store.entries() == before


def test_an_agent_comes_before_a_pack(store: RolloutStore) -> None:
    store.start(PACK, TERMS, GROUPS)
    store.start(AGENT, TERMS, GROUPS)
    first = store.release_for("a", FACTS)
    store.take_report("a", said("installed", 2))
    second = store.release_for("a", Facts("1.1", "aarch64", "3.11"))
    assert first is not None
    assert second is not None
    assert (first.kind, second.kind) == ("agent", "pack")


def test_a_report_of_a_release_that_never_was_is_refused(store: RolloutStore) -> None:
    store.start(AGENT, TERMS, GROUPS)
    for report in (said("installed", 2), said("installed", 1, "other.tar")):
        with pytest.raises(EnrolmentError, match="never rolled out"):
            store.take_report("a", report)


def test_one_rollout_of_a_kind_at_a_time(store: RolloutStore) -> None:
    store.start(AGENT, TERMS, GROUPS)
    with pytest.raises(ConfigError, match="rollout 1 is running"):
        store.start(AGENT, TERMS, GROUPS)
    store.change(1, r.stop)
    assert store.start(AGENT, TERMS, GROUPS).number == 2
    with pytest.raises(ConfigError, match="followed by 2"):
        store.change(1, r.order_return)
    with pytest.raises(ConfigError, match="no rollout 3"):
        store.change(3, r.stop)


def test_boards_are_known_from_their_questions(store: RolloutStore, clock: Clock) -> None:
    store.release_for("b", FACTS)
    store.release_for("a", FACTS)
    assert [(board.device, board.facts, board.asked_s) for board in store.boards()] == [
        ("a", FACTS, clock.now_s),
        ("b", FACTS, clock.now_s),
    ]
    clock.now_s += 100.0
    store.release_for("b", FACTS)
    assert [board.device for board in store.boards(within_s=99.0)] == ["b"]


def test_a_damaged_rollout_is_named(store: RolloutStore) -> None:
    store.start(AGENT, TERMS, GROUPS)
    with store._transaction() as db:
        db.execute("UPDATE rollouts SET state = x'c1'")
    with pytest.raises(StoreError, match="rollout 1 cannot be read"):
        store.entries()


def test_the_service_hands_over_what_boards_say(tmp_path: Path) -> None:
    RolloutStore(tmp_path / "rollouts.db").start(AGENT, TERMS, GROUPS)
    desk = RolloutDesk(tmp_path / "rollouts.db")
    assert desk.release_for("a", {}) is None
    order = desk.release_for("a", msgspec.structs.asdict(FACTS))
    assert order is not None
    desk.take_report("a", msgspec.json.encode(said("failed")))
    (entry,) = RolloutStore(tmp_path / "rollouts.db").entries()
    assert entry.rollout.devices["a"].outcome == "failed"


@pytest.mark.parametrize("facts", [{"version": "1.0"}, {"version": "new", "machine": "aarch64", "python": "3.11"}])
def test_a_question_that_is_none_is_refused(facts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="a question for orders"):
        RolloutDesk(tmp_path / "rollouts.db").release_for("a", facts)


@pytest.mark.parametrize("report", [b"{", b"{}", b'{"outcome":"installed"}'])
def test_a_report_that_is_none_is_refused(report: bytes, tmp_path: Path) -> None:
    with pytest.raises(EnrolmentError, match="a report on a release"):
        RolloutDesk(tmp_path / "rollouts.db").take_report("a", report)


def _report(path: Path, names: list[str]) -> None:
    store = RolloutStore(path)
    for name in names:
        store.release_for(name, FACTS)
        store.take_report(name, said("installed"))


def test_reports_of_two_processes_are_all_kept(tmp_path: Path) -> None:
    names = [f"board-{i}" for i in range(40)]
    store = RolloutStore(tmp_path / "rollouts.db")
    store.start(AGENT, TERMS, (tuple(names),))
    context = multiprocessing.get_context("spawn")
    halves = [context.Process(target=_report, args=(tmp_path / "rollouts.db", names[i::2])) for i in range(2)]
    for half in halves:
        half.start()
    for half in halves:
        half.join()
        assert half.exitcode == 0
    (entry,) = store.entries()
    assert {device.outcome for device in entry.rollout.devices.values()} == {"installed"}
    assert entry.rollout.phase == "done"
