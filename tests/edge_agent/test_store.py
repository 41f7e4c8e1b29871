from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.store import Model, Outgoing, Store
from edge_agent.wire.errors import StoreError

MODEL = Model(3, b"state", b"residual")
OUTGOING = Outgoing(4, b"sha", b"body", b"report")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


def test_a_new_store_is_at_the_seed_state(path: Path) -> None:
    store = Store(path)
    assert (store.model(), store.version(), store.outgoing()) == (None, 0, None)


def test_a_round_outlives_the_program(path: Path) -> None:
    store = Store(path)
    store.keep_round(MODEL, OUTGOING)
    store.close()
    again = Store(path)
    assert (again.model(), again.version(), again.outgoing()) == (MODEL, 3, OUTGOING)


def test_the_last_round_replaces_the_one_before(path: Path) -> None:
    store = Store(path)
    store.keep_round(MODEL, OUTGOING)
    newer = Model(4, b"s", b"r"), Outgoing(5, b"a", b"b", b"c")
    store.keep_round(*newer)
    assert (store.model(), store.outgoing()) == newer


def test_a_final_model_leaves_the_outbox(path: Path) -> None:
    store = Store(path)
    store.keep_round(MODEL, OUTGOING)
    store.keep_model(Model(9, b"s", b"r"))
    assert (store.version(), store.outgoing()) == (9, OUTGOING)


def test_only_the_round_that_is_settled_leaves_the_outbox(path: Path) -> None:
    store = Store(path)
    store.keep_round(MODEL, OUTGOING)
    store.settle(3)
    assert store.outgoing() == OUTGOING
    store.settle(4)
    assert store.outgoing() is None and store.model() == MODEL


def test_an_update_that_is_never_taken_leaves_no_trace_in_the_residual(path: Path) -> None:
    store = Store(path)
    store.keep_model(MODEL)
    store.keep_round(Model(4, b"newer state", b"newer residual"), Outgoing(5, b"sha", b"body", b"report"))
    store.discard(4)
    assert store.model() == Model(4, b"newer state", b"newer residual"), "another round's is another matter"
    store.close()
    again = Store(path)
    again.discard(5)
    assert (again.model(), again.outgoing()) == (Model(4, b"newer state", b"residual"), None)
    again.discard(5)
    assert again.model() == Model(4, b"newer state", b"residual")


def test_before_the_first_update_there_is_no_residual(path: Path) -> None:
    store = Store(path)
    store.keep_round(MODEL, OUTGOING)
    store.discard(OUTGOING.round)
    assert store.model() == Model(3, b"state", b"")


def test_a_settled_update_stays_in_the_residual(path: Path) -> None:
    store = Store(path)
    store.keep_model(MODEL)
    store.keep_round(Model(4, b"s", b"newer residual"), OUTGOING)
    store.settle(OUTGOING.round)
    store.discard(OUTGOING.round)
    assert store.model() == Model(4, b"s", b"newer residual")


def test_another_fleet_finds_nothing_but_the_count_of_boots(path: Path) -> None:
    store = Store(path)
    store.next_boot()
    store.keep(welcome=1, capability=2)
    store.keep_round(MODEL, OUTGOING)
    store.forget_fleet()
    assert (store.model(), store.outgoing(), store.get("welcome"), store.get("capability")) == (None,) * 4
    assert store.next_boot() == 2


HEAD, TABLES = b"head", [("rows low", b"123"), ("rows high", b"45")]


def midway(store: Store) -> tuple[bytes | None, list[bytes]]:
    return store.midway(), [store.midway_table(name) for name, _ in TABLES]


def test_what_is_kept_of_a_round_outlives_the_program_and_is_replaced_whole(path: Path) -> None:
    store = Store(path)
    store.keep_midway(b"earlier", [("rows low", b"000"), ("rows gone", b"6")])
    store.keep_midway(HEAD, TABLES)
    store.close()
    again = Store(path)
    assert midway(again) == (HEAD, [b"123", b"45"])
    assert again.midway_table("rows gone") == b""


@pytest.mark.parametrize(
    "end",
    [lambda store: store.keep_round(MODEL, OUTGOING), lambda store: store.keep_model(MODEL), Store.forget_fleet],
    ids=["the update is made", "the final model is kept", "other terms"],
)
def test_what_is_kept_of_a_round_goes_with_its_end(path: Path, end: Callable[[Store], None]) -> None:
    store = Store(path)
    store.keep_midway(HEAD, TABLES)
    end(store)
    assert midway(store) == (None, [b"", b""])


def test_tables_that_cannot_all_be_written_leave_those_before(path: Path) -> None:
    def torn() -> Iterator[tuple[str, bytes]]:
        yield "rows low", b"999"
        raise OSError("the disk is full")

    store = Store(path)
    store.keep_midway(HEAD, TABLES)
    with pytest.raises(StoreError, match="the disk is full"):
        store.keep_midway(b"later", torn())
    assert midway(store) == (HEAD, [b"123", b"45"])


FORMER = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE model (
    only INTEGER PRIMARY KEY CHECK (only = 0), version INTEGER NOT NULL, state BLOB NOT NULL, residual BLOB NOT NULL
);
CREATE TABLE outbox (
    only INTEGER PRIMARY KEY CHECK (only = 0), round INTEGER NOT NULL, sha256 BLOB NOT NULL, body BLOB NOT NULL,
    report BLOB NOT NULL
);
PRAGMA user_version=1;
"""


def test_a_store_of_the_former_schema_goes_on_with_its_update(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(FORMER)
        db.execute("INSERT INTO model VALUES (0, ?, ?, ?)", MODEL)
        db.execute("INSERT INTO outbox VALUES (0, ?, ?, ?, ?)", OUTGOING)
    db.close()
    store = Store(path)
    assert (store.model(), store.outgoing(), store.midway()) == (MODEL, OUTGOING, None)
    store.keep_midway(HEAD, TABLES)
    assert midway(store)[0] == HEAD
    store.discard(OUTGOING.round)
    assert store.model() == MODEL, "no residual to return to was kept then"


WRITER = """
import sys
from pathlib import Path
from edge_agent.store import Model, Outgoing, Store

store = Store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    store.keep_round(Model(number, b"%d" % number * 9999, b""), Outgoing(number, b"", b"%d" % number * 9999, b""))
    print(number, flush=True)
"""


@pytest.mark.parametrize("rounds", [1, 3, 10])
def test_a_killed_trainer_leaves_a_whole_round(path: Path, rounds: int) -> None:
    """State and update stand or fall together, whenever the writer dies."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(rounds):
            told = int(writer.stdout.readline())
        writer.kill()
        writer.wait()
    store = Store(path)
    model, outgoing = store.model(), store.outgoing()
    assert model is not None and outgoing is not None
    assert model.version == outgoing.round >= told, "what was told is on disk"
    assert model.state == outgoing.body == b"%d" % model.version * 9999
