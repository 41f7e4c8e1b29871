from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator import events
from coordinator.config import ObjectiveSettings
from coordinator.levels import HISTORY, JUDGE_EVERY_S, Levels, load_history
from coordinator.objectives import Facts
from coordinator.store import Store

SETTINGS = ObjectiveSettings(devices=2, topic=True)


def online(devices: int) -> Facts:
    return Facts(None, devices, None, None)


class Looked:
    """Service levels with what they told."""

    def __init__(self, store: Store, settings: ObjectiveSettings = SETTINGS) -> None:
        self.told: list[events.Watched] = []
        self.published: list[bytes] = []
        self.levels = Levels(settings, store, self.told.append, self.published.append)
        self.now_s = 0.0

    def look(self, *devices: int) -> list[bool]:
        """One look a count of devices; what was told of each change."""
        before = len(self.told)
        for count in devices:
            self.now_s += JUDGE_EVERY_S
            self.levels.look(lambda count=count: online(count), self.now_s)  # type: ignore[misc]
        return [event.met for event in self.told[before:] if isinstance(event, events.Objective)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "coordinator.db")
    yield store
    store.close()


def test_a_breach_and_its_end_are_told_published_and_kept(store: Store) -> None:
    looked = Looked(store)
    assert looked.look(2, 1, 1, 3, 3) == [False, True]
    assert [json.loads(body)["met"] for body in looked.published] == [False, True]
    assert [(one.name, one.met, one.value, one.bound) for one in load_history(store)] == [
        ("devices", False, 1.0, 2.0), ("devices", True, 3.0, 2.0),
    ]  # fmt: skip


def test_a_restart_tells_nothing_twice(store: Store) -> None:
    assert Looked(store).look(1) == [False]
    assert Looked(store).look(1, 2) == [True]


def test_it_is_judged_now_and_then_only(store: Store) -> None:
    looked = Looked(store)
    looked.look(2)
    looked.levels.look(lambda: online(0), looked.now_s + JUDGE_EVERY_S / 2)
    assert looked.told == []


def test_the_history_keeps_the_latest(store: Store) -> None:
    looked = Looked(store, ObjectiveSettings(devices=2))
    looked.look(*([1, 2] * (HISTORY // 2 + 5)))
    assert len(load_history(store)) == HISTORY
    assert load_history(store)[-1].met
    assert looked.published == []
