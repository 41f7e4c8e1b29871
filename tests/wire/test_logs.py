"""A line of JSON an event, with what it is about."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from edge_agent.wire import logs

LOGGER = logging.getLogger("rankfleet.test")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logs.JsonLines())
    LOGGER.addHandler(handler)
    LOGGER.setLevel("DEBUG")
    logs.forget()
    yield said
    LOGGER.removeHandler(handler)
    logs.forget()


def said(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_an_event_is_one_line_whatever_is_in_it(lines: io.StringIO) -> None:
    LOGGER.warning("two\nlines of %s", "“text”\x00")
    (line,) = said(lines)
    assert line.keys() == {"date", "level", "logger", "event"}
    assert (line["level"], line["logger"], line["event"]) == ("warning", "rankfleet.test", "two\nlines of “text”\x00")
    assert line["date"].endswith("+00:00")


def test_ids_are_those_that_are_known_when_it_happens(lines: io.StringIO) -> None:
    number = [1]
    logs.concern(fleet="depot", device=None, round=lambda: number[0])
    LOGGER.info("first")
    number[0] = 2
    LOGGER.info("second")
    assert [(line["fleet"], line["round"], "device" in line) for line in said(lines)] == [
        ("depot", 1, False), ("depot", 2, False),
    ]  # fmt: skip


def test_an_events_own_ids_go_before_the_programs(lines: io.StringIO) -> None:
    logs.concern(round=7)
    LOGGER.info("received", extra={"device": "pi-1", "round": 6, "facts": {"size_bytes": 3}})
    (line,) = said(lines)
    assert (line["device"], line["round"], line["size_bytes"]) == ("pi-1", 6, 3)


def test_what_nobody_expected_has_its_traceback_in_the_same_line(lines: io.StringIO) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        LOGGER.exception("it failed")
    (line,) = said(lines)
    assert line["event"] == "it failed" and line["error"].endswith("ValueError: odd")
