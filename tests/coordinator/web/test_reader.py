"""What the page says of a run, from databases as a coordinator leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from coordinator import journal as journals
from coordinator import pause
from coordinator.enrolment.registry import Registry
from coordinator.events import Objective
from coordinator.fleet_model import FleetModel, to_checkpoint
from coordinator.run import DATABASE
from coordinator.store import Contribution, DeviceRow, Store
from coordinator.web.reader import LATE_FACTOR, Reader
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import pack_mask
from tests.coordinator.web.pages import begin_run
from tests.disks import GARBAGE, damage
from tests.runs import CAPABILITY, make_record, make_state
from tests.wire.examples import REPORT

NOW_S = 1_800_000_000.0
READY = m.Ready(bytes(32), 40, 6, 12, 2, CAPABILITY)
NAMES = ("pi-1", "pi-2", "pi-3", "pi-4")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader("depot", tmp_path, lambda: Registry(tmp_path / "enrolment.db"), lambda: "running")
    yield one
    one.close()


def a_plan(number: int, ranks: int = 5) -> bytes:
    state = make_state(1)
    mask = state.layout.full_mask()
    mask[:] = False
    mask.reshape(-1)[:ranks] = True
    plan = m.Plan(number, 4, 0, (), bytes(32), "train", pack_mask(mask), 9, 0, 600.0, 0)
    return msgspec.msgpack.encode(plan)


def contribute(store: Store, number: int, device: str) -> None:
    report = msgspec.msgpack.encode(REPORT)
    store.keep_contribution(number, Contribution(device, bytes(32), report, b"update", number))


def close(store: Store, number: int) -> None:
    state = make_state(number)
    checkpoint = to_checkpoint(FleetModel(state, state.layout.empty_rows(), state.mask * 1.0))
    store.close_round(number, checkpoint, b"delta", msgspec.json.encode(make_record(number)))


def open_round(folder: Path, number: int, answered_s: dict[str, float]) -> Store:
    """A round of all devices that opened at `NOW_S`; who answered so many seconds later."""
    store = begin_run(folder)
    lines = [journals.Line(NOW_S, "opened", "", number, "")]
    for name in NAMES:
        store.keep_device(DeviceRow(name, 1, 5, True, msgspec.msgpack.encode(READY), ""))
        store.keep_plan(number, name, a_plan(number))
    for name, after_s in answered_s.items():
        contribute(store, number, name)
        lines.append(journals.Line(NOW_S + after_s, "received", name, number, ""))
    journal = journals.Journal(folder / journals.FILE)
    journal.write(lines, [journals.Step("pi-4", NOW_S + 5, number, "train", 3, 8, 0.5, 61.5)])
    journal.close()
    return store


def test_before_the_rounds_there_is_nothing_and_nothing_is_made(reader: Reader, tmp_path: Path) -> None:
    found = reader.read(NOW_S)
    assert (found.fleet, found.run.service, found.run.rounds, found.devices) == ("depot", "running", None, {})
    assert not (tmp_path / DATABASE).exists()
    Store(tmp_path / DATABASE).close()
    assert reader.read(NOW_S).run.rounds is None, "only a pause was written"


def test_closed_rounds_and_the_map_of_ranks(reader: Reader, tmp_path: Path) -> None:
    store = begin_run(tmp_path)
    first = reader.read(NOW_S)
    assert first.run.rounds == 4 and first.rounds == {}
    assert first.rank_map is not None and set(first.rank_map.alive) == {first.rank_map.slots}
    for number in (1, 2):
        close(store, number)
    found = reader.read(NOW_S)
    assert [row.loss for row in found.rounds.values()] == [2.0, 1.0] and list(found.rounds) == ["1", "2"]
    assert found.run.closed == 2 and found.run.open_round is None


def test_the_open_round_with_who_is_awaited_and_what_they_do(reader: Reader, tmp_path: Path) -> None:
    open_round(tmp_path, 1, {"pi-1": 10.0, "pi-2": 20.0})
    found = reader.read(NOW_S + 21)
    assert (found.run.open_round, found.run.cohort, found.run.answered) == (1, 4, 2)
    assert found.run.opened_s == NOW_S and found.run.deadline_s == 600.0
    assert [found.devices[name].part for name in NAMES] == ["answered", "answered", "pending", "pending"]
    busy, done = found.devices["pi-4"], found.devices["pi-1"]
    assert (busy.phase, busy.step, busy.steps, busy.ranks) == ("train", 3, 8, 5)
    assert (done.step, done.ranks, done.peak_bytes) == (None, REPORT.ranks, REPORT.peak_anonymous_bytes)
    assert (busy.examples, busy.budget_bytes, busy.version) == (40, CAPABILITY.budget_bytes, 2)
    assert busy.temperature_c == 61.5 and busy.peak_bytes is None


def test_a_device_is_late_when_half_have_answered_and_it_takes_half_as_long_again(
    reader: Reader, tmp_path: Path
) -> None:
    open_round(tmp_path, 1, {"pi-1": 10.0, "pi-2": 20.0})
    limit_s = LATE_FACTOR * 15
    assert late(reader, NOW_S + limit_s) == set()
    assert late(reader, NOW_S + limit_s + 1) == {"pi-3", "pi-4"}


def test_while_few_have_answered_nobody_is_late_until_the_deadline(reader: Reader, tmp_path: Path) -> None:
    open_round(tmp_path, 1, {"pi-1": 10.0})
    assert late(reader, NOW_S + 599) == set()
    assert late(reader, NOW_S + 600) == {"pi-2", "pi-3", "pi-4"}


def late(reader: Reader, now_s: float) -> set[str]:
    return {name for name, row in reader.read(now_s).devices.items() if row.late}


def test_what_was_read_holds_until_somebody_writes(reader: Reader, tmp_path: Path) -> None:
    store = open_round(tmp_path, 1, {})
    first = reader.read(NOW_S)
    assert reader.read(NOW_S).devices is first.devices
    store.keep_device(DeviceRow("pi-1", 1, 6, False, None, "the connection was lost"))
    row = reader.read(NOW_S).devices["pi-1"]
    assert (row.online, row.note, row.budget_bytes) == (False, "the connection was lost", None)


def test_a_run_folder_that_is_replaced_is_read_anew(reader: Reader, tmp_path: Path) -> None:
    store = begin_run(tmp_path)
    close(store, 1)
    store.close()
    assert reader.read(NOW_S).run.closed == 1
    for path in tmp_path.glob("coordinator.db*"):
        path.rename(tmp_path / f"old-{path.name}")
    begin_run(tmp_path)
    assert reader.read(NOW_S).run.closed == 0


def test_pause_and_service_levels(reader: Reader, tmp_path: Path) -> None:
    store = begin_run(tmp_path, devices=3, accuracy=0.9)
    pause.say(store, True, "somebody", datetime(2026, 11, 26, tzinfo=timezone.utc))
    store.keep(objectives=(Objective("devices", False, 2.0, 3.0, "2026-11-26T12:00:00+00:00"),))
    found = reader.read(NOW_S)
    assert (found.run.paused, found.run.paused_by) == (True, "somebody")
    assert [(one.name, one.met, one.value) for one in found.levels] == [
        ("devices", False, 2.0),
        ("accuracy", True, None),
    ]


def test_damaged_rows_hide_nothing_else(reader: Reader, tmp_path: Path) -> None:
    store = open_round(tmp_path, 3, {"pi-1": 1.0})
    for number in (1, 2):
        close(store, number)
    path = tmp_path / DATABASE
    for statement in (
        "UPDATE device SET ready = ? WHERE name = 'pi-1'",
        "UPDATE round SET record = ? WHERE number = 1",
        "UPDATE plan SET body = ? WHERE device = 'pi-3'",
        "UPDATE contribution SET report = ? WHERE device = 'pi-1'",
        "UPDATE checkpoint SET state = ? WHERE version = 2",
    ):
        damage(path, statement, GARBAGE)
    found = reader.read(NOW_S)
    assert list(found.rounds) == ["2"] and found.run.open_round == 3
    assert found.rank_map is None
    assert found.devices["pi-3"].ranks is None and found.devices["pi-4"].ranks == 5
    assert "cannot be read" in found.devices["pi-1"].note
