"""Runs the services of a gateway in the foreground: starts them in order, restarts what fails, ends them in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
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
    """`services` in the order in which they need each other; `upkeep` comes every few hours, `say` is for a person.
    Without those in `spare` the others serve all the same.
    """

    def __init__(
        self,
        services: Sequence[Service],
        say: Callable[[str], None],
        upkeep: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        spare: Collection[Service] = (),
    ) -> None:
        self._services = tuple(services)
        self._say = say
        self._upkeep = upkeep
        self._clock = clock
        self._spare = spare
        self._again: deque[Service] = deque()

    def again(self, service: Service) -> None:
        """Stops and starts a service soon. Any thread may ask for it."""
        self._again.append(service)

    def run(self) -> None:
        """Serves until it is interrupted (`KeyboardInterrupt`), which ends all services.

        Raises:
            RankfleetError: a service cannot be started to begin with.
        """
        with ExitStack() as stack:
            watches = []
            for service in self._services:
                stack.callback(service.stop)
                watches.append(_Watch(service, self._clock()))
                self._begin(watches[-1])
            stack.callback(tell, "STOPPING=1")
            tell("READY=1")
            kept_s = self._clock()
            while True:
                time.sleep(POLL_S)
                self._ask_again(watches)
                for watch in watches:
                    self.look(watch)
                if self._clock() - kept_s >= UPKEEP_S:
                    kept_s = self._clock()
                    self._keep_up()

    def _begin(self, watch: _Watch) -> None:
        try:
            watch.service.start()
        except RankfleetError as error:
            if watch.service not in self._spare:
                raise
            self._put_off(watch, str(error))

    def _ask_again(self, watches: Sequence[_Watch]) -> None:
        while self._again:
            service = self._again.popleft()
            for watch in watches:
                if watch.service is service:
                    watch.due_s, watch.delay_s = self._clock(), FIRST_DELAY_S

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
