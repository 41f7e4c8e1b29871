"""What the coordinator must not lose: transactions that are whole or did not happen, whatever ends the writer."""

from __future__ import annotations

import hashlib
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.fleet_model import to_checkpoint
from coordinator.store import Checkpoint, Contribution, DeviceRow, Store
from edge_agent.wire.errors import StoreError
from tests.coordinator.small import after_a_round

SHA256 = hashlib.sha256(b"update").digest()
UPDATE = Contribution("pi-1", SHA256, b"report", b"update", 1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "coordinator.db")
    yield store
    store.close()


def close(store: Store, number: int) -> None:
    store.close_round(number, Checkpoint(number, b"state", b"residual", b"scores"), b"delta %d" % number, b"record")


def test_a_new_store_is_empty(store: Store) -> None:
    assert (store.checkpoint(), store.devices(), store.rounds(), store.plans(1)) == (None, [], [], {})
    assert (store.contributors(1), store.delta_sizes(0), store.delta_body(bytes(32))) == ({}, [], None)


def test_devices_are_kept_by_name(store: Store) -> None:
    rows = [DeviceRow("pi-2", 3, 7, False, None, "too little memory"), DeviceRow("pi-1", 1, 2, True, b"ready", "")]
    for row in rows:
        store.keep_device(row)
    store.keep_device(rows[0]._replace(boot=4))
    assert store.devices() == [rows[1], rows[0]._replace(boot=4)]


def test_a_second_update_of_a_device_replaces_nothing(store: Store) -> None:
    store.keep_contribution(1, UPDATE)
    store.keep_contribution(1, UPDATE._replace(sha256=b"other", body=b"other"))
    assert store.contributors(1) == {"pi-1": (SHA256, b"report")}
    assert store.contribution_body(1, "pi-1") == b"update"


def test_a_later_plan_replaces_an_earlier_one(store: Store) -> None:
    for body in (b"first", b"second"):
        store.keep_plan(1, "pi-1", body)
    assert store.plans(1) == {"pi-1": b"second"}


def test_closing_a_round_leaves_its_model_its_delta_and_its_reports(store: Store) -> None:
    store.keep_plan(1, "pi-1", b"plan")
    store.keep_contribution(1, UPDATE)
    close(store, 1)
    assert store.checkpoint() == Checkpoint(1, b"state", b"residual", b"scores")
    assert store.rounds() == [(1, b"record")] and store.rounds(after=1) == []
    assert store.plans(1) == {}
    assert store.contributors(1) == {"pi-1": (SHA256, b"report")}
    assert store.delta_body(hashlib.sha256(b"delta 1").digest()) == b"delta 1"
    with pytest.raises(StoreError, match="no update of pi-1 for round 1"):
        store.contribution_body(1, "pi-1")


def test_the_last_checkpoints_are_kept(store: Store) -> None:
    for number in range(1, 6):
        close(store, number)
    assert [one.version for one in store.checkpoints()] == [5, 4, 3]
    assert store.checkpoint() == store.checkpoints()[0]


def test_a_mended_checkpoint_of_the_newest_version_replaces_it_and_no_more(store: Store) -> None:
    for number in (1, 2):
        close(store, number)
    store.keep_plan(3, "pi-1", b"plan")
    run = store.run_id()
    store.mend(Checkpoint(2, b"mended", b"residual", b"scores"))
    assert [one.state for one in store.checkpoints()] == [b"mended", b"state"]
    assert (len(store.rounds()), store.plans(3), store.run_id()) == (2, {"pi-1": b"plan"}, run)


def test_a_mended_checkpoint_of_an_older_version_undoes_what_came_after(store: Store) -> None:
    for number in (1, 2, 3):
        store.keep_contribution(number, UPDATE)
        close(store, number)
    store.keep_plan(4, "pi-1", b"plan")
    store.keep_contribution(4, UPDATE)
    run = store.run_id()
    store.mend(Checkpoint(2, b"mended", b"residual", b"scores"))
    assert [one.version for one in store.checkpoints()] == [2, 1]
    assert [number for number, _ in store.rounds()] == [version for version, _, _ in store.delta_sizes(0)] == [1, 2]
    assert [len(store.contributors(number)) for number in (1, 2, 3, 4)] == [1, 1, 0, 0]
    assert store.plans(4) == {}
    assert store.run_id() != run, "devices that hold what is undone must start anew"


FORMER = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE device (
    name TEXT PRIMARY KEY, boot INTEGER NOT NULL, sequence INTEGER NOT NULL, online INTEGER NOT NULL,
    ready BLOB, note TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE TABLE checkpoint (
    only INTEGER PRIMARY KEY CHECK (only = 0), version INTEGER NOT NULL, state BLOB NOT NULL, residual BLOB NOT NULL,
    scores BLOB NOT NULL
);
CREATE TABLE delta (version INTEGER PRIMARY KEY, sha256 BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE plan (round INTEGER NOT NULL, device TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (round, device));
CREATE TABLE contribution (
    round INTEGER NOT NULL, device TEXT NOT NULL, sha256 BLOB NOT NULL, report BLOB NOT NULL, body BLOB,
    PRIMARY KEY (round, device)
);
CREATE TABLE round (number INTEGER PRIMARY KEY, record BLOB NOT NULL);
PRAGMA user_version=1;
"""


def test_a_run_of_the_former_schema_goes_on(tmp_path: Path) -> None:
    model = after_a_round([1, 2])
    before = to_checkpoint(model)
    with sqlite3.connect(tmp_path / "coordinator.db") as db:
        db.executescript(FORMER)
        row = (before.version, before.state, before.residual, model.importance.astype("<f8").tobytes())
        db.execute("INSERT INTO checkpoint VALUES (0, ?, ?, ?, ?)", row)
        db.execute("INSERT INTO contribution VALUES (2, 'pi-1', ?, x'02', x'03')", (hashlib.sha256(b"\x03").digest(),))
    db.close()
    store = Store(tmp_path / "coordinator.db")
    assert store.checkpoints() == [before]
    assert store.contribution_body(2, "pi-1") == b"\x03"
    assert store.late(2) == {}
    close(store, 2)
    assert [one.version for one in store.checkpoints()] == [2, 1]
    store.close()


def test_a_late_update_is_known_by_the_round_that_it_was_made_for(store: Store) -> None:
    store.keep_contribution(3, UPDATE._replace(origin=2))
    store.keep_contribution(3, UPDATE._replace(device="pi-2", origin=3))
    assert store.late(3) == {"pi-1": 1}
    assert store.holds(2, "pi-1", UPDATE.sha256)
    assert not store.holds(2, "pi-2", b"another")
    assert not store.holds(4, "pi-1", UPDATE.sha256), "no update counts before its round"


def test_plans_are_kept_while_their_updates_are_taken(store: Store) -> None:
    for number in (1, 2, 3):
        store.keep_plan(number, "pi-1", b"plan %d" % number)
        store.close_round(number, Checkpoint(number, b"", b"", b""), b"delta", b"record", 1)
    assert [store.plan(number, "pi-1") for number in (1, 2, 3)] == [None, None, b"plan 3"]


def test_deltas_after_a_version_in_order(store: Store) -> None:
    for number in (1, 2, 3):
        close(store, number)
    assert [(version, size) for version, _, size in store.delta_sizes(1)] == [(2, 7), (3, 7)]


@pytest.mark.parametrize("table", ["delta", "round", "contribution", "plan"])
def test_closing_a_round_happens_whole_or_not_at_all(store: Store, tmp_path: Path, table: str) -> None:
    close(store, 1)
    store.keep_plan(2, "pi-1", b"plan")
    store.keep_contribution(2, UPDATE)
    with sqlite3.connect(tmp_path / "coordinator.db") as db:
        when = {"contribution": "UPDATE", "plan": "DELETE"}.get(table, "INSERT")
        db.execute(f"CREATE TRIGGER full BEFORE {when} ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    db.close()
    with pytest.raises(StoreError, match="disk full"):
        close(store, 2)
    checkpoint = store.checkpoint()
    assert checkpoint is not None
    assert checkpoint.version == 1
    assert [number for number, _ in store.rounds()] == [1]
    assert [version for version, _, _ in store.delta_sizes(0)] == [1]
    assert store.plans(2) == {"pi-1": b"plan"}
    assert store.contribution_body(2, "pi-1") == b"update"


WRITER = """
import sys
from pathlib import Path
from coordinator.store import Checkpoint, Contribution, Store
store = Store(Path(sys.argv[1]))
for number in range(1, 100000):
    store.keep_contribution(number, Contribution("pi-1", b"sha", b"report", bytes(5000), number))
    print(number, flush=True)
    store.close_round(number, Checkpoint(number, bytes(20000), b"", b""), b"delta %d" % number, b"record")
"""


@pytest.mark.parametrize("after", [1, 7, 20])
def test_a_killed_writer_leaves_whole_rounds_and_every_update_that_it_announced(tmp_path: Path, after: int) -> None:
    path = tmp_path / "coordinator.db"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    for _ in range(after):
        announced = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    announced = max([announced, *map(int, writer.stdout.read().split())])
    writer.wait()
    writer.stdout.close()
    store = Store(path)
    checkpoint = store.checkpoint()
    closed = 0 if checkpoint is None else checkpoint.version
    assert [number for number, _ in store.rounds()] == list(range(1, closed + 1))
    assert [version for version, _, _ in store.delta_sizes(0)] == list(range(1, closed + 1))
    assert closed in {announced, announced - 1}
    assert store.contributors(announced).keys() == {"pi-1"}
    store.close()


def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.db"
    path.write_bytes(b"this is no database, only text" * 100)
    with pytest.raises(StoreError, match=r"coordinator\.db"):
        Store(path)
