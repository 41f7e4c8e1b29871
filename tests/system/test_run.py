"""A whole run of real processes, over each broker and protocol that the product speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from coordinator import events
from edge_agent.wire import state as states
from tests.brokers import mosquitto
from tests.system.fleet import BUDGET_BYTES, DEVICES, ROUNDS, USERS, Fleet, Settings, fleet, of_kind

PACKET_BYTES = 131072


@contextmanager
def on_embedded(folder: Path) -> Iterator[Fleet]:
    with fleet(folder / "fleet") as one:
        yield one


@contextmanager
def on_mosquitto_5(folder: Path) -> Iterator[Fleet]:
    with (
        mosquitto(folder, users=USERS) as broker,
        fleet(folder / "fleet", Settings(port=broker.port, broker={"protocol": "5"})) as one,
    ):
        yield one


@contextmanager
def on_limited_mosquitto_3(folder: Path) -> Iterator[Fleet]:
    """A broker that acknowledges what is over its limit, and then drops it."""
    limits = (f"message_size_limit {PACKET_BYTES}",)
    broker_settings = {"protocol": "3.1.1", "max_packet_bytes": PACKET_BYTES}
    with (
        mosquitto(folder, max_packet_bytes=PACKET_BYTES, users=USERS, lines=limits) as broker,
        fleet(folder / "fleet", Settings(port=broker.port, broker=broker_settings)) as one,
    ):
        yield one


Place = Callable[[Path], AbstractContextManager[Fleet]]


@pytest.mark.parametrize("place", [on_embedded, on_mosquitto_5, on_limited_mosquitto_3])
def test_a_run_ends_with_one_better_model_everywhere(place: Place, tmp_path: Path) -> None:
    with place(tmp_path) as one:
        told = one.run()
        records = one.records()
        assert [record.contributors for record in records] == [DEVICES] * ROUNDS
        assert_learnt(told, records)
        assert_budgets_held(told)
        assert_same_state(one)


def assert_learnt(told: list[events.Watched], records: list[events.RoundRecord]) -> None:
    final = [event.finished.accuracy for event in of_kind(told, events.Finished)]
    assert len(final) == len(DEVICES)
    before = records[0].accuracy
    assert before is not None
    assert sum(final) / len(final) > before + 0.2
    losses = [record.loss for record in records if record.loss is not None]
    assert len(losses) == len(records) - 1  # the first round only looked at the data
    assert losses[-1] < losses[0]
    assert records[-1].ranks_alive < of_kind(told, events.Opened)[0].ranks_alive


def assert_budgets_held(told: list[events.Watched]) -> None:
    reports = [event.report for event in of_kind(told, events.Received)]
    assert len(reports) == ROUNDS * len(DEVICES)
    for report in reports:
        assert 0 < report.peak_anonymous_bytes < report.peak_rss_bytes <= BUDGET_BYTES
        assert report.peak_anonymous_bytes + report.mapped_bytes <= BUDGET_BYTES
        assert report.bytes_up > 0
        assert report.bytes_down > 0
        assert report.pack_bytes_down > 0


def assert_same_state(one: Fleet) -> None:
    """Every agent holds the coordinator's model, bit for bit."""
    checkpoint = one.final_state()
    assert checkpoint.version == one.settings.rounds
    for name in DEVICES:
        state = states.from_bytes(one.agent_state(name), one.layout())
        assert states.digest(state) == states.digest(checkpoint)
        assert one.agent_state(name) == one.checkpoint()


def test_rounds_that_do_not_wait_take_what_comes_late(tmp_path: Path) -> None:
    """Two updates close a round of three devices, so one of them is late nearly always."""
    quick = {"cohort": 2, "over_selection": 1.5, "quorum": 2, "late_rounds": 3}
    with fleet(tmp_path / "fleet", Settings(rounds=6, round=quick)) as one:
        told = one.run()
        records = one.records()
        assert_same_state(one)
    late = [device for record in records for device in record.late]
    assert late and all(set(record.late) <= set(record.contributors) for record in records)
    assert all(len(record.contributors) >= 2 for record in records)
    given = [(event.device, event.round) for event in of_kind(told, events.Received)]
    assert len(given) == len(set(given)) == sum(len(record.contributors) for record in records), "each counts once"
