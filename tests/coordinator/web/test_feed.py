"""One thread looks for all who watch, at most once a second; what cannot be read is told and tried again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from coordinator.web import feed as feeds
from coordinator.web.feed import Feed
from coordinator.web.state import Run, Snapshot
from edge_agent.wire.errors import StoreError


class Script:
    """A reader that gives one thing after another."""

    def __init__(self, *found: Snapshot | StoreError) -> None:
        self.found = list(found)
        self.reads = 0
        self.closed = False

    def read(self, now_s: float) -> Snapshot:
        self.reads += 1
        one = self.found.pop(0) if len(self.found) > 1 else self.found[0]
        if isinstance(one, StoreError):
            raise one
        return one

    def close(self) -> None:
        self.closed = True


def at_round(number: int) -> Snapshot:
    return Snapshot("depot", Run("running", closed=number))


async def take(stream: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await asyncio.wait_for(anext(stream), 20) for _ in range(count)]


def always() -> bool:
    return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK_EVERY_S", 0.05)


def played(script: Script, play: Callable[[Feed], Any]) -> Any:
    feed = Feed(script, lambda: 7.0)  # type: ignore[arg-type]
    try:
        return asyncio.run(play(feed))
    finally:
        feed.close()
        assert script.closed


def test_everything_is_told_once_and_then_what_changed() -> None:
    told = played(Script(at_round(1), at_round(1), at_round(2)), lambda feed: take(feed.follow(always), 2))
    first, second = (json.loads(one.removeprefix(b"data: ")) for one in told)
    assert first["fleet"] == "depot" and first["run"]["closed"] == 1 and first["now_s"] == 7.0
    assert set(second) == {"now_s", "run"} and second["run"]["closed"] == 2


def test_all_who_watch_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "LOOK_EVERY_S", 60.0)
    script = Script(at_round(1))

    async def play(feed: Feed) -> None:
        await asyncio.gather(*(take(feed.follow(always), 1) for _ in range(20)))

    played(script, play)
    assert script.reads == 1


def test_what_cannot_be_read_is_told_logged_once_and_everything_is_told_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failure = StoreError("the disk is gone")
    told = played(Script(at_round(1), failure, failure, at_round(1)), lambda feed: take(feed.follow(always), 4))
    assert told[1] == told[2] == b"event: failure\ndata: {}\n\n"
    assert told[3] == told[0]
    assert caplog.text.count("the disk is gone") == 1


def test_it_ends_with_the_session_and_with_the_page() -> None:
    allowed = [True]

    async def play(feed: Feed) -> list[list[bytes]]:
        one, two = feed.follow(lambda: allowed[0]), feed.follow(always)
        await take(one, 1)
        await take(two, 1)
        allowed[0] = False
        rest = [[found async for found in one]]
        feed.end()
        rest.append([found async for found in two])
        return rest

    assert played(Script(at_round(1)), play) == [[], []]


def test_something_is_said_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "BEAT_S", 0.2)
    told = played(Script(at_round(1)), lambda feed: take(feed.follow(always), 2))
    assert told[1].startswith(b":")
