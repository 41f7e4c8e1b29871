"""The coordinator's events as lines of its log: each with its level, what it is about, and its figures."""

from __future__ import annotations

import logging

import msgspec

from coordinator import events
from edge_agent.wire import logs

LOGGER = logging.getLogger("rankfleet.coordinator")
_WARNINGS = (events.Mended, events.Left, events.Refused, events.Flooding)


class EventLog:
    """As `events.Watch`: logs every event. Rounds that open are what later lines are about."""

    def __call__(self, event: events.Watched) -> None:
        """One line."""
        if isinstance(event, events.Opened):
            logs.concern(round=event.round)
        facts = msgspec.to_builtins(event)
        extra = {name: facts.pop(name) for name in logs.IDS if name in facts}
        LOGGER.log(_level(event), "%s", facts.pop("event"), extra={**extra, "facts": facts})


def _level(event: events.Watched) -> int:
    if isinstance(event, events.Training):
        return logging.DEBUG
    missed = isinstance(event, events.Objective) and not event.met
    return logging.WARNING if missed or isinstance(event, _WARNINGS) else logging.INFO
