"""The coordinator's events in its log: their level, their ids and their figures, as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from coordinator import events
from coordinator.event_log import EventLog
from edge_agent.wire import logs
from tests.runs import make_record
from tests.wire.examples import REPORT


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    caplog.set_level(logging.DEBUG, "rankfleet.coordinator")
    caplog.handler.setFormatter(logs.JsonLines())
    logs.forget()
    log = EventLog()

    def tell(*happened: events.Watched) -> list[dict[str, Any]]:
        caplog.clear()
        for event in happened:
            log(event)
        return [json.loads(caplog.handler.format(record)) for record in caplog.records]

    yield tell
    logs.forget()


def test_an_event_has_its_name_its_ids_and_its_figures(told: Any) -> None:
    (line,) = told(events.Received("pi-1", 3, REPORT))
    assert (line["event"], line["device"], line["round"], line["level"]) == ("received", "pi-1", 3, "info")
    assert line["report"]["examples"] == REPORT.examples


def test_what_follows_the_opening_of_a_round_is_about_it(told: Any) -> None:
    told(events.Opened(4, 9, ("pi-1",), 50, "train"))
    (left,) = told(events.Left("pi-1", "the connection was lost"))
    assert (left["round"], left["reason"], left["level"]) == (4, "the connection was lost", "warning")


def test_levels(told: Any) -> None:
    lines = told(
        events.Training("pi-1", 1, "train", 1, 2, None, 61.5),
        events.Closed(make_record(1)),
        events.Objective("devices", True, 3.0, 2.0, "2026-11-26"),
        events.Objective("devices", False, 1.0, 2.0, "2026-11-26"),
        events.Refused("pi-1", "too large"),
    )
    assert [line["level"] for line in lines] == ["debug", "info", "info", "warning", "warning"]
