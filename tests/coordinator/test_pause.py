"""A pause is one value in the database, which a running coordinator follows and a restarted one finds again."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from coordinator import events, pause
from coordinator import round as rounds
from coordinator.config import CoordinatorConfig, RoundSettings
from coordinator.run import DATABASE
from coordinator.store import Store
from tests.coordinator.devices import Devices, Start, last_rounds
from tests.disks import GARBAGE
from tests.scripted import Device, all_of

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
STATE = rounds.begin(RoundSettings(), 0, 0.0)


def say(config: CoordinatorConfig, paused: bool) -> None:
    store = Store(config.run_dir / DATABASE)
    pause.say(store, paused, "a test", NOW)
    store.close()


def test_what_was_said_last_holds(tmp_path: Path) -> None:
    store = Store(tmp_path / DATABASE)
    assert pause.said(store) == pause.Pause(False)
    pause.say(store, True, "an operator", NOW)
    assert pause.said(store) == pause.Pause(True, "an operator", "2026-11-26T12:00:00+00:00")
    pause.say(store, False, "another", NOW)
    assert not pause.said(store).paused


def test_where_it_is_damaged_the_rounds_go_on_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / DATABASE)
    store.put(pause=GARBAGE)
    assert not pause.said(store).paused
    assert "the rounds go on" in caplog.text


def test_a_change_is_told_once_and_looked_for_once_a_second(tmp_path: Path) -> None:
    store = Store(tmp_path / DATABASE)
    watcher = pause.Watcher(store)
    assert list(watcher.look(STATE, 0.0)) == []
    pause.say(store, True, "a test", NOW)
    assert list(watcher.look(STATE, 0.5)) == []
    (told,) = watcher.look(STATE, 1.0)
    assert told == rounds.Paused(True, 1.0)
    after, _ = rounds.advance(STATE, told)
    assert list(watcher.look(after, 2.0)) == []


def test_a_coordinator_pauses_behind_its_open_round_stays_so_over_a_restart_and_goes_on(
    start: Start, devices: Devices, config: CoordinatorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pause, "LOOK_EVERY_S", 0.0)
    gateway = start()
    all_of(devices, Device.join)
    gateway.tells(events.Opened)
    say(config, True)
    all_of(devices, Device.takes_part)
    gateway.tells(events.Closed)
    assert "the rounds are paused" in gateway.tells(events.Waiting)[-1].reason
    gateway.crash()
    again = start()
    all_of(devices, Device.join)
    again.tells(events.Joined, 3)
    assert "the rounds are paused" in again.tells(events.Waiting)[-1].reason
    assert again.told(events.Opened) == []
    say(config, False)
    last_rounds(devices)
    assert again.ends() == ()
    assert [event.round for event in again.told(events.Opened)] == [2]
