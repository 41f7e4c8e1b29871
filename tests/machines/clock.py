"""Time as a test makes it pass, for a coordinator and agents in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from coordinator import server
from edge_agent import agent, fetching, meter


class Clock:
    """Stands in for the module `time`. Every boot has monotonic seconds of its own; dates jump as they like."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.booted_s = 0.0
        """When whoever has its turn booted: its monotonic time counts from there."""
        self.date_s = 1.7e9

    def monotonic(self) -> float:
        return self.now_s - self.booted_s

    def time(self) -> float:
        return self.date_s + self.now_s

    def process_time(self) -> float:
        return self.now_s

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@contextmanager
def installed(clock: Clock) -> Iterator[None]:
    """`clock` is what the coordinator and the agents go by."""
    with ExitStack() as stack:
        for module in (server, agent, fetching, meter):
            stack.enter_context(mock.patch.object(module, "time", clock))
        yield
