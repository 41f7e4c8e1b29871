"""Looks after the service levels: judges them now and then, keeps their history, and tells of every change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone

import msgspec

from coordinator import events
from coordinator.config import ObjectiveSettings
from coordinator.notify import Webhook
from coordinator.objectives import Facts, changes, judge
from coordinator.store import Store

JUDGE_EVERY_S = 1.0
HISTORY = 1000
"""Changes that are kept, the latest."""

Publish = Callable[[bytes], object]
"""Sends JSON to the fleet's topic of events."""


class Levels:
    """The service levels of one run. What is missed and what was is in the store, so a restart tells nothing twice."""

    def __init__(self, settings: ObjectiveSettings, store: Store, watch: events.Watch, publish: Publish) -> None:
        self._settings = settings
        self._store = store
        self._watch = watch
        self._publish = publish
        self._webhook = Webhook(settings.webhook) if settings.webhook else None
        self._history = load_history(store)
        self._met = {change.name: change.met for change in self._history}
        self._due_s = 0.0

    def look(self, facts: Callable[[], Facts], now_s: float) -> None:
        """Judges `facts()` if it is time to."""
        if now_s < self._due_s:
            return
        self._due_s = now_s + JUDGE_EVERY_S
        for standing in changes(self._met, judge(self._settings, facts())):
            date = datetime.now(timezone.utc).isoformat(timespec="seconds")
            self._tell(events.Objective(standing.name, standing.met, standing.value, standing.bound, date))

    def close(self) -> None:
        """Lets the webhook go."""
        if self._webhook is not None:
            self._webhook.close()

    def _tell(self, change: events.Objective) -> None:
        self._met[change.name] = change.met
        self._history = (*self._history, change)[-HISTORY:]
        self._store.keep(objectives=self._history)
        self._watch(change)
        body = msgspec.json.encode(change)
        if self._settings.topic:
            self._publish(body)
        if self._webhook is not None:
            self._webhook.post(body)


def load_history(store: Store) -> tuple[events.Objective, ...]:
    """Every change that is kept, the oldest first; none where they are damaged, which is logged."""
    return store.value_or("objectives", (), tuple[events.Objective, ...], "their history begins anew")
