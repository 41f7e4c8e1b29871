"""The journal of a run: what is kept of its events, and that the run does not depend on it."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from coordinator import events, journal
from coordinator.journal import FILE, Journal, Line, Recorder, Step
from tests.runs import make_record

NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)
NOW_S = NOW.timestamp()


def record(folder: Path, *happened: events.Watched) -> Journal:
    told: list[events.Watched] = []
    recorder = Recorder(folder / FILE, told.append, lambda: NOW)
    for event in happened:
        recorder(event)
    recorder.close()
    assert told == list(happened)
    return Journal(folder / FILE, read_only=True)


def test_events_are_lines_and_progress_is_the_last_step_of_each_device(tmp_path: Path) -> None:
    kept = record(
        tmp_path,
        events.Opened(1, 3, ("pi-1", "pi-2"), 54, "train"),
        events.Training("pi-1", 1, "train", 1, 8, 2.5, 60.0),
        events.Training("pi-1", 1, "train", 2, 8, None, 61.5),
        events.Refused("pi-2", "too little memory", 1000),
        events.Closed(make_record(1)),
        events.Objective("devices", False, 1.0, 2.0, "2026-11-26"),
    )
    assert kept.lines(10) == [
        Line(NOW_S, "objective", "", None, '["devices",false,1.0,2.0]'),
        Line(NOW_S, "closed", "", 1, ""),
        Line(NOW_S, "refused", "pi-2", None, "too little memory"),
        Line(NOW_S, "opened", "", 1, ""),
    ]
    assert kept.lines(10, "pi-2") == kept.lines(10)[2:3]
    assert kept.last("opened") == kept.of_round(1, "opened")[0]
    assert kept.steps() == {"pi-1": Step("pi-1", NOW_S, 1, "train", 2, 8, None, 61.5)}


def test_only_the_last_lines_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "KEPT_LINES", 3)
    kept = record(tmp_path, *(events.Left(f"pi-{number}", "") for number in range(9)))
    assert [line.device for line in kept.lines(10)] == ["pi-8", "pi-7", "pi-6"]


def test_where_it_cannot_be_written_the_run_goes_on_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "WRITE_EVERY_S", 0.01)
    (tmp_path / FILE).mkdir()
    told: list[events.Watched] = []
    recorder = Recorder(tmp_path / FILE, told.append)
    for _ in range(20):
        recorder(events.Waiting("nobody is there"))
        recorder._end.wait(0.01)
    recorder.close()
    assert len(told) == 20
    assert caplog.text.count("the journal is not kept") == 1
