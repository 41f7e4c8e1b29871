"""From one release to another and, if that does not work, back: upgrade, return, and what a power cut left of them.

A change is written down in `upgrade.json` before the first link is switched, and the file is deleted when the change
has an end. Whatever happens in between, `current` leads to a whole release that passed its self-test; `recover` brings
the change to its end, and every other operation calls it first.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_agent.wire.errors import ReleaseError

from . import durable, environment, store
from .idle import idle
from .layout import Board
from .limits import DEFAULT_LIMITS, Limits
from .service_manager import ServiceManager
from .store import Release

Health = Callable[[Release], None]
"""Looks at a release that is current by now; raises ReleaseError with the reason why it is not to stay."""


@dataclass(frozen=True)
class Outcome:
    """What became of a change: `release` is the current one now; `reason` says why the other was left."""

    kind: Literal["installed", "returned"]
    release: Release
    reason: str = ""


@dataclass(frozen=True)
class Journal:
    """A change under way: versions, and whether the agent ran, or was to, and is to run again."""

    origin: str
    goal: str
    ran: bool


def self_test(release: Release) -> None:
    """The health check unless another is given. Raises ReleaseError."""
    environment.self_test(release.folder)


@dataclass(frozen=True)
class Changer:
    """Changes releases on one board, whose installer's lock the caller holds."""

    board: Board
    manager: ServiceManager
    limits: Limits = DEFAULT_LIMITS
    health: Health = self_test

    def install(self, source: Path) -> Outcome:
        """Makes the bundle in the tar `source` the current release.

        Raises:
            ReleaseError: it cannot be staged, the agent does not become idle or cannot be stopped: nothing was
                changed. Or neither release starts: the message names both reasons.
            OSError: the disk cannot be written.
        """
        self.recover()
        release = store.stage(self.board, source)
        now = store.current(self.board)
        if now is None:
            store.point(self.board.current, release)
            return Outcome("installed", release)
        if now == release:
            store.prune(self.board)
            return Outcome("installed", release, "it was installed already")
        return self._change(now, release)

    def go_back(self) -> Outcome:
        """Makes the last good release current again; the one that was left becomes the previous one.

        Raises:
            ReleaseError: there is none, or as `install`.
            OSError: the disk cannot be written.
        """
        self.recover()
        now, before = store.current(self.board), store.previous(self.board)
        if now is None or before is None or now == before:
            raise ReleaseError("there is no earlier release on this board: install the one you want from its bundle")
        return self._change(now, before)

    def recover(self) -> Outcome | None:
        """Brings an interrupted change to its end: the new release stays if it is healthy. None: there was none.

        Raises:
            ReleaseError: neither release starts.
            OSError: the disk cannot be written.
        """
        store.clean(self.board)
        journal = self._journal()
        if journal is None:
            durable.remove(self.board.journal)
            return None
        whole, now = store.complete(self.board), store.current(self.board)
        origin, goal = whole.get(journal.origin), whole.get(journal.goal)
        if origin is not None and goal is not None and now == goal:
            return self._settle(origin, goal, journal.ran)
        if origin is not None:
            return self._return(origin, journal.ran, "it was interrupted before the new release was current")
        if now is None:
            raise ReleaseError("no release on this board is whole: install one from a bundle")
        durable.remove(self.board.journal)
        return Outcome("installed", now, "the release before it is gone")

    def _journal(self) -> Journal | None:
        try:
            told = json.loads(self.board.journal.read_bytes())
            return Journal(str(told["origin"]), str(told["goal"]), bool(told["ran"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _change(self, origin: Release, goal: Release) -> Outcome:
        ran = self.manager.wanted()
        with idle(self.board.state_dir(), self.limits.idle_s):
            journal = {"origin": origin.version, "goal": goal.version, "ran": ran}
            durable.write(self.board.journal, json.dumps(journal).encode() + b"\n")
            try:
                self.manager.stop()
            except ReleaseError:
                durable.remove(self.board.journal)
                raise
            store.point(self.board.current, goal)
        return self._settle(origin, goal, ran)

    def _settle(self, origin: Release, goal: Release, ran: bool) -> Outcome:
        reason = self._trouble(goal, ran)
        if reason is not None:
            return self._return(origin, ran, f"release {goal.version}: {reason}")
        store.point(self.board.previous, origin)
        durable.remove(self.board.journal)
        store.prune(self.board)
        return Outcome("installed", goal)

    def _return(self, origin: Release, ran: bool, reason: str) -> Outcome:
        """Leaves the release that was tried; it is deleted, so that the next attempt starts with a fresh one."""
        self.manager.stop()
        store.point(self.board.current, origin)
        if ran:
            try:
                self.manager.start()
            except ReleaseError as error:
                both = f"{reason}; and release {origin.version} does not start any more: {error}"
                raise ReleaseError(both) from error
        durable.remove(self.board.journal)
        store.prune(self.board)
        return Outcome("returned", origin, reason)

    def _trouble(self, release: Release, ran: bool) -> str | None:
        """Why `release`, which is current, is not to stay; None where it works."""
        try:
            self.health(release)
            if ran:
                self.manager.start()
                self._stays_up()
        except ReleaseError as error:
            return str(error)
        return None

    def _stays_up(self) -> None:
        first = self.manager.process()
        deadline_s = time.monotonic() + self.limits.steady_s
        while (process := self.manager.process()) == first is not None and time.monotonic() < deadline_s:
            time.sleep(self.limits.poll_s)
        if first is None or process != first:
            raise ReleaseError(f"the agent did not stay up for {self.limits.steady_s:.0f} s: see its journal")
