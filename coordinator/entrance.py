"""Where messages enter: whose they are, and whether that device keeps to its limit."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from coordinator import events
from coordinator.desk import Desk
from coordinator.guard import Bucket, take
from coordinator.revoked import Revoked
from edge_agent.wire import topics

LOGGER = logging.getLogger("rankfleet.coordinator")
STRANGERS_PER_S = 0.1
"""How often it is said at most that a message came from what cannot be a device."""


class Entrance:
    """Lets messages in by their sender alone; nothing of what they say is looked at."""

    def __init__(
        self,
        messages_per_s: float,
        desk: Desk,
        watch: events.Watch,
        clock: Callable[[], float] = time.monotonic,
        *,
        revoked: Revoked = frozenset,
    ) -> None:
        self._messages_per_s = messages_per_s
        self._desk = desk
        self._watch = watch
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}
        self._strangers: Bucket | None = None
        self._revoked = revoked
        self._told: set[str] = set()

    def admits(self, device: str) -> bool:
        """Whether a message of `device`, as its topic names it, may go on. What it does not let in is dropped."""
        if not topics.is_name(device):
            self._turn_away(device)
            return False
        if device in self._revoked():
            self._shut_out(device)
            return False
        before, rate = self._buckets.get(device), self._messages_per_s
        self._buckets[device] = take(before, self._clock(), rate)
        if self._buckets[device].flooding and not (before and before.flooding):
            self._desk.change(device, note=f"sends more than guard.messages_per_s ({rate:g}): the surplus is dropped")
            self._watch(events.Flooding(device, rate))
        return not self._buckets[device].flooding

    def _shut_out(self, device: str) -> None:
        """The broker should not have let it in."""
        if device not in self._told:
            self._told.add(device)
            LOGGER.warning("dropped a message of %s, which is revoked: does the broker use the fleet's list?", device)

    def _turn_away(self, name: str) -> None:
        """Names are drawn up by whoever sends, so nothing is kept of them."""
        self._strangers = take(self._strangers, self._clock(), STRANGERS_PER_S)
        if not self._strangers.flooding:
            LOGGER.warning(
                "dropped a message: a device is named by 1 to 64 letters, digits, '.', '_' or '-', and not "
                "'%s'; its topic named %.80r. Let the broker's ACL allow the names of your devices only",
                topics.COORDINATOR,
                name,
            )
