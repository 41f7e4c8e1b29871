"""Simulated time: what is due when. Waiting costs nothing, and the same agenda runs the same every time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable


class Agenda:
    """Actions in the order of their time; those of one moment in the order in which they were noted."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Notes `action` for `delay_s` seconds from now."""
        heapq.heappush(self._due, (self.now_s + delay_s, next(self._order), action))

    @property
    def next_s(self) -> float:
        """When the next action is due; infinity if none is."""
        return self._due[0][0] if self._due else math.inf

    def run_next(self) -> None:
        """Goes to the time of the next action, and carries it out."""
        due_s, _, action = heapq.heappop(self._due)
        self.now_s = max(self.now_s, due_s)
        action()

    def run_until(self, end_s: float) -> None:
        """Carries out all that is due up to `end_s`, and goes there."""
        while self.next_s <= end_s:
            self.run_next()
        self.now_s = max(self.now_s, end_s)
