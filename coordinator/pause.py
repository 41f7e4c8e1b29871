"""Whether the rounds are paused: one value in the coordinator's database, which whoever administers the run writes.

The coordinator looks at it now and then, so that it needs no channel of its own, and finds it again after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from coordinator import round as rounds
from coordinator.store import Store

KEY = "pause"
LOOK_EVERY_S = 1.0


class Pause(msgspec.Struct, frozen=True):
    """The last word of whoever administers the run: who said it, and when (UTC, ISO 8601)."""

    paused: bool
    who: str = ""
    date: str = ""


def said(store: Store) -> Pause:
    """The last word; where there is none, or it is damaged, the rounds go on."""
    return store.value_or(KEY, Pause(False), Pause, "the rounds go on")


def say(store: Store, paused: bool, who: str, now: datetime) -> Pause:
    """Pauses or resumes the rounds.

    Raises:
        StoreError: it could not be written.
    """
    word = Pause(paused, who, now.isoformat(timespec="seconds"))
    store.keep(**{KEY: word})
    return word


class Watcher:
    """Tells the round machine of a pause, and of its end."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._due_s = 0.0

    def look(self, state: rounds.State, now_s: float) -> Iterator[rounds.Event]:
        """What has changed, if it is time to look."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + LOOK_EVERY_S
        paused = said(self._store).paused
        if paused is not state.paused:
            yield rounds.Paused(paused, now_s)
