"""Runs the services of a gateway in the foreground: starts them in order, restarts what fails, ends them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from edge_agent.wire.errors import RankfleetError

from .readiness import tell
from .services import Service

POLL_S = 0.2
FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0
STABLE_S = 60.0
"""What ran so long is restarted at once when it fails again."""
UPKEEP_S = 6 * 3600.0


@dataclass
class _Watch:
    """How one service fares; times are monotonic seconds."""

    service: Service
    started_s: float
    delay_s: float = FIRST_DELAY_S
    due_s: float | None = None
    """When it is started again; None while it serves."""


class Gateway:
    """`services` in the order in which they need each other; `upkeep` comes every few hours, `say` is for a person."""

    def __init__(
        self,
        services: Sequence[Service],
        say: Callable[[str], None],
        upkeep: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._services = tuple(services)
        self._say = say
        self._upkeep = upkeep
        self._clock = clock

    def run(self) -> None:
        """Serves until it is interrupted (`KeyboardInterrupt`), which ends all services.

        Raises:
            RankfleetError: a service cannot be started to begin with.
        """
        with ExitStack() as stack:
            watches = []
            for service in self._services:
                stack.callback(service.stop)
                service.start()
                watches.append(_Watch(service, self._clock()))
            stack.callback(tell, "STOPPING=1")
            tell("READY=1")
            kept_s = self._clock()
            while True:
                time.sleep(POLL_S)
                for watch in watches:
                    self.look(watch)
                if self._clock() - kept_s >= UPKEEP_S:
                    kept_s = self._clock()
                    self._keep_up()

    def look(self, watch: _Watch) -> None:
        """Starts a service that failed again, after a delay that doubles until it holds."""
        now_s, service = self._clock(), watch.service
        if watch.due_s is None:
            reason = service.failed()
            if reason is not None:
                if now_s - watch.started_s >= STABLE_S:
                    watch.delay_s = FIRST_DELAY_S
                self._put_off(watch, reason)
        elif now_s >= watch.due_s:
            watch.due_s, watch.started_s = None, now_s
            service.stop()
            try:
                service.start()
            except RankfleetError as error:
                self._put_off(watch, str(error))

    def _put_off(self, watch: _Watch, reason: str) -> None:
        self._say(f"{watch.service.name}: {reason}; it is started again in {watch.delay_s:g} s")
        watch.due_s = self._clock() + watch.delay_s
        watch.delay_s = min(2 * watch.delay_s, LONGEST_DELAY_S)

    def _keep_up(self) -> None:
        try:
            self._upkeep()
        except RankfleetError as error:
            self._say(f"upkeep: {error}")
