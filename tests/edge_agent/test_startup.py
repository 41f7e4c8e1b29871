"""What an agent makes of its database when it starts, also of one that an UPDATE has damaged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent import session
from edge_agent.meter import Account
from edge_agent.startup import account_of, initial, make_offer
from edge_agent.store import Model, Outgoing, Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import StoreError
from tests.agents import make_welcome
from tests.disks import GARBAGE, damage
from tests.runs import make_state
from tests.wire.examples import REPORT

BODY = b"an update"
SHA256 = hashlib.sha256(BODY).digest()
ACCOUNT = Account(10, 20, 1, 30)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    """An agent at version 2 that has trained round 3."""
    store = Store(path)
    store.keep(welcome=make_welcome(), account=ACCOUNT)
    state = states.to_bytes(make_state(2))
    store.keep_round(Model(2, state, state), Outgoing(3, SHA256, BODY, msgspec.msgpack.encode(REPORT)))
    yield store
    store.close()


def known(state: session.State) -> tuple[m.Welcome | None, int, m.Offer | None]:
    return state.welcome, state.version, state.offer


def offer() -> m.Offer:
    report = msgspec.structs.replace(
        REPORT, bytes_up=ACCOUNT.bytes_up, bytes_down=ACCOUNT.bytes_down, pack_bytes_down=ACCOUNT.pack_bytes_down
    )
    return m.Offer(3, m.ObjectRef("update", SHA256, len(BODY)), report)


def test_a_new_agent_knows_nothing(path: Path) -> None:
    assert known(initial(Store(path))) == (None, 0, None)


def test_what_is_whole_is_gone_on_with(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    assert known(initial(store)) == (make_welcome(), 2, offer())
    assert not caplog.messages


@pytest.mark.parametrize("column", ["report", "body", "sha256", "round"])
def test_a_damaged_update_is_not_offered_and_its_round_can_be_trained_again(
    store: Store, path: Path, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage(path, f"UPDATE outbox SET {column} = ?", GARBAGE)
    outgoing = store.outgoing()
    assert outgoing is not None
    with pytest.raises(StoreError, match=r"agent\.db: the update that waits .* trained again"):
        make_offer(store, outgoing, (), ACCOUNT)
    assert known(initial(store)) == (make_welcome(), 2, None)
    assert store.outgoing() is None and store.model() is not None
    assert any("the update that waits to be sent" in line for line in caplog.messages)


def test_a_damaged_state_is_dropped_with_all_that_was_made_of_it(
    store: Store, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.keep_midway(b"head", [("table", b"rows")])
    damage(path, "UPDATE model SET state = substr(state, 1, length(state) - 1) || x'00'")
    assert known(initial(store)) == (make_welcome(), 0, None)
    assert (store.model(), store.outgoing(), store.midway()) == (None, None, None)
    assert any("the model state cannot be read" in line and "fetched again" in line for line in caplog.messages)


def test_without_its_terms_an_agent_joins_anew(store: Store, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store.next_boot()
    damage(path, "UPDATE meta SET value = ? WHERE key = 'welcome'", GARBAGE)
    assert known(initial(store)) == (None, 0, None)
    assert store.value("boot", int) == 1
    assert any("'welcome' cannot be read" in line and "joins its fleet anew" in line for line in caplog.messages)


def test_damaged_figures_are_counted_from_zero(store: Store, path: Path) -> None:
    damage(path, "UPDATE meta SET value = ? WHERE key = 'account'", GARBAGE)
    assert account_of(store) == Account()
    found = initial(store).offer
    assert found is not None and found.report.bytes_up == 0
