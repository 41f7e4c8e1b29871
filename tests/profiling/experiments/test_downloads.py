"""What a device fetches: every broadcast that it missed, or the snapshot where that is less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from coordinator import fleet_model
from edge_agent.wire import state as states
from edge_agent.wire.container import Kind, kind_of, unseal
from profiling.experiments.downloads import Downloads
from profiling.experiments.method import ALL, Model, Parts
from profiling.experiments.views import project
from tests.peers import LAYOUT

MODEL = Model(fleet_model.start(LAYOUT, 0))
NONE = Parts(False, False, False)
LARGE = bytes(1_000_000)


def after(*broadcasts: Sequence[bytes], parts: Parts = ALL) -> Downloads:
    """The downloads after a round for each of `broadcasts`."""
    downloads = Downloads(MODEL)
    for broadcast in broadcasts:
        downloads.add(replace(MODEL, broadcast=tuple(broadcast)), parts)
    return downloads


def size_bytes(bodies: Sequence[bytes]) -> int:
    return sum(map(len, bodies))


def test_version_0_is_never_fetched() -> None:
    downloads = Downloads(MODEL)
    assert downloads.version == 0
    assert downloads.since(0) == ()


def test_whoever_has_the_newest_version_fetches_nothing() -> None:
    downloads = after([b"one"], [b"two"])
    assert downloads.version == 2
    assert downloads.since(2) == ()


def test_every_missed_broadcast_is_fetched_in_order() -> None:
    assert after([b"one"], [b"two", b"too"], [b"three"]).since(1) == (b"two", b"too", b"three")


def test_the_last_broadcast_is_fetched_even_where_the_snapshot_is_less() -> None:
    assert after([b"one"], [LARGE]).since(1) == (LARGE,)


def test_the_snapshot_is_fetched_where_the_broadcasts_are_more() -> None:
    fetched = after([LARGE], [b"two"]).since(0)
    assert size_bytes(fetched) < size_bytes((LARGE, b"two"))
    state = states.from_bytes(fetched[0], LAYOUT)
    assert states.digest(state) == states.digest(MODEL.fleet.state)


@pytest.mark.parametrize("size", [1, 100, 3000, 100_000])
def test_what_is_fetched_is_the_lesser_of_the_two(size: int) -> None:
    missed = bytes(size), bytes(size)
    snapshot = after([LARGE], [LARGE]).since(0)
    assert size_bytes(after(*([one] for one in missed)).since(0)) == min(size_bytes(missed), size_bytes(snapshot))


def test_a_whole_broadcast_makes_earlier_ones_unnecessary() -> None:
    downloads = after([LARGE], [LARGE])
    downloads.add(replace(MODEL, broadcast=(b"whole",), whole=True), ALL)
    downloads.add(replace(MODEL, broadcast=(b"then",)), ALL)
    assert [downloads.since(version) for version in range(5)] == [(b"whole", b"then")] * 3 + [(b"then",), ()]


@pytest.mark.parametrize("parts", [NONE, Parts(a=False, e=False), Parts(e=False), ALL])
def test_a_snapshot_holds_the_parts_that_ever_changed(parts: Parts) -> None:
    (fetched,) = after([LARGE], [LARGE], parts=parts).since(0)
    expected = project(LAYOUT, MODEL.fleet.state.rows, parts)
    numbers = b"".join(table.tobytes() for table in expected.values())
    whole = states.to_bytes(MODEL.fleet.state)
    assert unseal(Kind.SNAPSHOT, fetched, len(whole)).endswith(numbers)
    assert (len(fetched) < len(whole)) == (parts != ALL)


def test_parts_that_changed_once_stay_in_the_snapshot() -> None:
    downloads = after([LARGE])
    downloads.add(replace(MODEL, broadcast=(LARGE,)), NONE)
    assert downloads.since(0) == after([LARGE], [LARGE]).since(0)


def test_a_snapshot_brings_what_was_added_to_the_frozen_weights() -> None:
    module = LAYOUT.modules[1]
    added = np.arange(module.d_out * module.d_in, dtype=np.float32).reshape(module.d_out, module.d_in)
    downloads = after([LARGE])
    downloads.add(replace(MODEL, broadcast=(LARGE,), base={module.name: added}), ALL)
    state, base = downloads.since(0)
    assert (kind_of(state), kind_of(base)) == (Kind.SNAPSHOT, Kind.SNAPSHOT)
    assert unseal(Kind.SNAPSHOT, base, added.nbytes) == added.tobytes()


def test_a_snapshot_leaves_out_what_was_added_at_the_start_already() -> None:
    module = LAYOUT.modules[1]
    start = replace(MODEL, base={module.name: np.ones((module.d_out, module.d_in), np.float32)})
    downloads = Downloads(start)
    for _ in range(2):
        downloads.add(replace(start, broadcast=(LARGE,)), ALL)
    assert [kind_of(body) for body in downloads.since(0)] == [Kind.SNAPSHOT]
