"""What devices may pull, and the shorter way to the present model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.objects import Objects
from coordinator.store import Checkpoint, Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import PackError
from edge_agent.wire.pack import INT8_FILES, MANIFEST, load_manifest
from edge_agent.wire.state import ModelState, seed_state
from edge_agent.wire.transfer import Source
from tests.models import tiny_pack
from tests.scripted import tiny_layout


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "coordinator.db")
    yield store
    store.close()


def at_version(store: Store, version: int, delta_bytes: int) -> ModelState:
    """A store after `version` rounds, each with a delta of `delta_bytes`."""
    for number in range(1, version + 1):
        delta = number.to_bytes(1, "big") * delta_bytes
        store.close_round(number, Checkpoint(number, b"", b"", b""), delta, b"")
    return replace(seed_state(tiny_layout(), 0), version=version)


def read(source: Source | None) -> bytes:
    assert source is not None
    return source.read(0, source.size_bytes)


def test_every_file_of_the_pack_is_found_by_its_hash(store: Store) -> None:
    objects = Objects(tiny_pack(), store)
    for name, entry in load_manifest(tiny_pack()).files.items():
        assert read(objects.find(bytes.fromhex(entry.sha256))) == (tiny_pack() / name).read_bytes()
    assert read(objects.find(objects.manifest.sha256)) == (tiny_pack() / MANIFEST).read_bytes()
    assert objects.find(bytes(32)) is None


@pytest.mark.parametrize("name", sorted(INT8_FILES))
def test_a_pack_that_was_altered_on_disk_is_refused(store: Store, tmp_path: Path, name: str) -> None:
    pack = tmp_path / "pack"
    shutil.copytree(tiny_pack(), pack)
    with (pack / name).open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))
    with pytest.raises(PackError, match=name):
        Objects(pack, store)


def test_a_missing_pack_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no model pack"):
        Objects(tmp_path / "nowhere", store)


def test_a_device_that_is_up_to_date_needs_nothing(store: Store) -> None:
    state = at_version(store, 2, 100)
    assert Objects(tiny_pack(), store).path_from(2, state) == ()


def test_a_device_behind_gets_the_deltas_in_order(store: Store) -> None:
    state = at_version(store, 4, 100)
    objects = Objects(tiny_pack(), store)
    path = objects.path_from(1, state)
    assert [(ref.kind, ref.size_bytes) for ref in path] == [("delta", 100)] * 3
    assert [read(objects.find(ref.sha256))[0] for ref in path] == [2, 3, 4]


def test_where_the_deltas_are_more_than_the_snapshot_it_gets_that(store: Store) -> None:
    size_bytes = len(states.to_bytes(seed_state(tiny_layout(), 0)))
    state = at_version(store, 2, size_bytes // 2 + 1)
    objects = Objects(tiny_pack(), store)
    (ref,) = objects.path_from(0, state)
    assert ref.kind == "snapshot"
    found = states.from_bytes(read(objects.find(ref.sha256)), tiny_layout())
    assert states.digest(found) == states.digest(state)
    assert objects.path_from(1, state)[0].kind == "delta"


@pytest.mark.parametrize("version", [2, 3])
def test_where_a_delta_was_dropped_a_device_before_it_gets_the_snapshot(store: Store, version: int) -> None:
    state = at_version(store, 4, 100)
    store.drop_delta(version)
    objects = Objects(tiny_pack(), store)
    assert [ref.kind for ref in objects.path_from(1, state)] == ["snapshot"]
    assert [ref.kind for ref in objects.path_from(version, state)] == ["delta"] * (4 - version)


def test_the_last_delta_too_is_made_up_for(store: Store) -> None:
    state = at_version(store, 2, 100)
    store.drop_delta(2)
    assert [ref.kind for ref in Objects(tiny_pack(), store).path_from(1, state)] == ["snapshot"]


def test_a_snapshot_is_made_once_a_version_and_served_until_the_next(store: Store) -> None:
    state = at_version(store, 2, 10**6)
    objects = Objects(tiny_pack(), store)
    (first,) = objects.path_from(0, state)
    assert objects.path_from(0, state) == (first,)
    (second,) = objects.path_from(0, at_version(store, 3, 10**6))
    assert isinstance(second, m.ObjectRef)
    assert objects.find(first.sha256) is None
    assert objects.find(second.sha256) is not None
