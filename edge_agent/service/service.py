"""The agent's loop as a service: ready, alive, busy, asked to read its configuration again.

`READY=1` is told when the loop begins, not when the broker is reached: a board starts before its gateway often enough,
and the manager would end, again and again, an agent that only waits. Who wants to know reads the status line.

The watchdog is fed by turns of the loop. A trainer that hangs is ended by the supervisor itself (`patience`) and its
job starts again, so what the watchdog covers is the supervisor.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.service.busy import Busy
from edge_agent.service.notify import Notifier
from edge_agent.service.reload import Change, merge
from edge_agent.wire.errors import RankfleetError

LOGGER = logging.getLogger("rankfleet.agent")


class Service:
    """`load` reads the configuration anew, on SIGHUP; without it, or in a terminal, that signal ends the agent."""

    def __init__(self, state_dir: Path, notifier: Notifier, load: Callable[[], AgentConfig] | None = None) -> None:
        self._busy = Busy(state_dir)
        self._notifier = notifier
        self._load = load
        self._asked = threading.Event()
        self._status = ""
        # In a terminal SIGHUP means that it was closed, which should end the agent.
        if load is not None and threading.current_thread() is threading.main_thread() and not sys.stdin.isatty():
            signal.signal(signal.SIGHUP, lambda *_: self._asked.set())

    def ready(self) -> None:
        """The loop begins."""
        self._notifier.tell(READY="1", STATUS="waiting for the broker")

    def turned(self) -> None:
        """The loop has come round."""
        self._notifier.feed(time.monotonic())

    def stands(self, *, online: bool, phase: str, busy: bool) -> None:
        """Where the session stands; `busy` while it is in a round, which an update must not interrupt."""
        self._busy.hold(busy)
        status = phase if online else f"{phase}, no connection to the broker"
        if status != self._status:
            self._status = status
            self._notifier.tell(STATUS=status)

    def stopping(self) -> None:
        """The loop has ended."""
        self._notifier.tell(STOPPING="1", STATUS="stopping")
        self._busy.hold(False)

    def reloaded(self, old: AgentConfig, check: Callable[[AgentConfig], object]) -> Change | None:
        """What changed, where SIGHUP has asked for it and there is anything. A file that cannot be used, or that
        `check` refuses, is logged, and the agent goes on with what it has."""
        if not self._asked.is_set() or self._load is None:
            return None
        self._asked.clear()
        self._notifier.reloading()
        try:
            change = merge(old, self._load())
            check(change.settings)
            LOGGER.info("the configuration was read again; changed: %s", ", ".join(change.changed) or "nothing")
            if change.left:
                LOGGER.warning("these settings change with a restart only: %s", ", ".join(change.left))
        except RankfleetError as error:
            LOGGER.error("the configuration is not taken, the agent goes on with the one before: %s", error)
            return None
        finally:
            self._notifier.tell(READY="1")
        return change if change.changed else None
