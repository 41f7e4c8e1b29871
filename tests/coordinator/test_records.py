"""The record of a closed round, from known reports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import fleet_model
from coordinator.automatic import Sign
from coordinator.config import RoundSettings
from coordinator.events import RoundRecord
from coordinator.fleet_model import Closing, FleetModel
from coordinator.records import make_record, mean_loss, reports_of, signs_of
from coordinator.round import Close
from coordinator.store import Checkpoint, Contribution, Store
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Layout, Module
from edge_agent.wire.state import ModelState
from tests.wire.examples import REPORT

LAYOUT = Layout((Module("low", 0, 4, 3), Module("high", 1, 3, 5)), slots=3, classes=2, d_model=4)
SIGNS = (Sign(2.0, 6, 0.0), Sign(1.75, 4, 0.25))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "coordinator.db")
    yield store
    store.close()


def contribute(store: Store, device: str, body: bytes, origin: int = 3, **report: Any) -> m.RoundReport:
    said = msgspec.structs.replace(REPORT, **report)
    sha256 = hashlib.sha256(body).digest()
    store.keep_contribution(3, Contribution(device, sha256, msgspec.msgpack.encode(said), body, origin))
    return said


def closing() -> Closing:
    start = fleet_model.start(LAYOUT, 0)
    mask = np.array([[False, False, False], [True, True, False]])
    state = ModelState(LAYOUT, 3, mask, start.state.rows)
    return Closing(FleetModel(state, start.residual, start.importance, SIGNS), b"delta")


def record(store: Store, *devices: str) -> RoundRecord:
    return make_record(store, RoundSettings(), Close(3, devices), closing(), budget_ranks=2, wall_s=1.5)


def test_means_are_weighted_by_examples_and_accuracy_by_hold_out_rows(store: Store) -> None:
    contribute(store, "a", b"12345", examples=10, loss=1.0, holdout_correct=1, holdout_total=10)
    contribute(store, "b", b"123", examples=30, loss=2.0, holdout_correct=9, holdout_total=10)
    assert record(store, "a", "b") == RoundRecord(
        round=3,
        version=3,
        contributors=("a", "b"),
        examples=40,
        loss=1.75,
        accuracy=0.5,
        ranks_alive=2,
        modules_alive=1,
        budget_ranks=2,
        needed_ranks=4,
        agreement=0.25,
        updates_bytes=8,
        delta_bytes=5,
        wall_s=1.5,
    )


def test_without_hold_outs_there_is_no_accuracy(store: Store) -> None:
    contribute(store, "a", b"", holdout_correct=0, holdout_total=0)
    assert record(store, "a").accuracy is None


def test_late_updates_weigh_less_and_tell_nothing_of_the_model(store: Store) -> None:
    contribute(store, "a", b"12345", examples=10, loss=1.0, holdout_correct=1, holdout_total=10)
    contribute(store, "b", b"123", origin=0, examples=30, loss=2.0, holdout_correct=9, holdout_total=10)
    made = record(store, "a", "b")
    assert (made.examples, made.loss, made.accuracy, made.late) == (25, 1.0, 0.1, {"b": 3})


def test_where_all_are_late_there_is_neither_loss_nor_accuracy(store: Store) -> None:
    contribute(store, "a", b"12345", origin=2, examples=10, loss=1.0)
    made = record(store, "a")
    assert (made.examples, made.loss, made.accuracy, made.needed_ranks) == (7, None, None, None)


def test_reports_by_device(store: Store) -> None:
    said = {device: contribute(store, device, b"", steps=steps) for device, steps in (("b", 2), ("a", 1))}
    assert reports_of(store, 3) == said
    assert reports_of(store, 4) == {}


def test_a_record_can_be_kept_as_json(store: Store) -> None:
    contribute(store, "a", b"")
    made = record(store, "a")
    assert msgspec.json.decode(msgspec.json.encode(made), type=RoundRecord) == made


def test_a_round_that_nobody_trained_in_has_neither_loss_nor_sign(store: Store) -> None:
    contribute(store, "a", b"", loss=None)
    made = record(store, "a")
    assert (made.loss, made.needed_ranks, made.agreement) == (None, None, None)


def test_the_mean_loss_is_of_those_who_trained() -> None:
    reports = {
        "trained": msgspec.structs.replace(REPORT, examples=10, loss=1.0),
        "looked": msgspec.structs.replace(REPORT, examples=90, loss=None),
    }
    assert mean_loss(reports) == 1.0
    assert mean_loss({"looked": reports["looked"]}) is None


def test_signs_come_back_from_the_records_of_closed_rounds(store: Store) -> None:
    contribute(store, "a", b"", loss=1.0)
    trained = record(store, "a")
    looked = msgspec.structs.replace(trained, loss=None, needed_ranks=None, agreement=None)
    for number, made in enumerate((looked, trained), start=1):
        store.close_round(number, Checkpoint(number, b"", b"", b""), b"delta", msgspec.json.encode(made))
    assert signs_of(store) == (Sign(trained.loss, 4, 0.25),)
