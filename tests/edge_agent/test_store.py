from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.store import Model, Outgoing, Store

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


def test_another_fleet_finds_nothing_but_the_count_of_boots(path: Path) -> None:
    store = Store(path)
    store.next_boot()
    store.keep(welcome=1, capability=2)
    store.keep_round(MODEL, OUTGOING)
    store.forget_fleet()
    assert (store.model(), store.outgoing(), store.get("welcome"), store.get("capability")) == (None,) * 4
    assert store.next_boot() == 2


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
