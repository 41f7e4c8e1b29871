"""What the agent spends, by account: bytes on the socket and the phases of a round."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

from edge_agent import memory
from edge_agent.wire import messages as m
from edge_agent.wire.link import Traffic


@dataclass(frozen=True)
class Account:
    """Bytes on the socket since the agent's state was made: the pack apart from everything else."""

    bytes_up: int = 0
    bytes_down: int = 0
    pack_bytes_up: int = 0
    pack_bytes_down: int = 0

    def add(self, up: int, down: int, *, pack: bool) -> Account:
        """The account after `up` and `down` more bytes, spent on the pack or on rounds."""
        if pack:
            return replace(self, pack_bytes_up=self.pack_bytes_up + up, pack_bytes_down=self.pack_bytes_down + down)
        return replace(self, bytes_up=self.bytes_up + up, bytes_down=self.bytes_down + down)


class TrafficMeter:
    """Splits the link's one cumulative count into accounts."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self._last = Traffic(0, 0)

    def restart(self) -> None:
        """A new link counts from zero."""
        self._last = Traffic(0, 0)

    def take(self, traffic: Traffic | None, *, pack: bool) -> None:
        """Books what came since the last call."""
        if traffic is None:
            return
        up, down = traffic.bytes_up - self._last.bytes_up, traffic.bytes_down - self._last.bytes_down
        self.account = self.account.add(up, down, pack=pack)
        self._last = traffic


class PhaseMeter:
    """Wall and CPU time of this process's phases, and the memory of the process tree below `root`, a pid.

    Phases of one name add up; their memory is that of the last. `root` is this process unless another is named, as the
    supervisor by its trainer.
    """

    def __init__(self, root: int | None = None) -> None:
        self._root = root or os.getpid()
        self._phases: dict[str, m.Phase] = {}
        self._name = ""
        self._wall_s = self._cpu_s = 0.0

    def enter(self, name: str) -> None:
        """Ends the present phase, if any, and begins another; an empty name begins none."""
        wall_s, cpu_s = time.monotonic(), time.process_time()
        if self._name:
            self._book(wall_s - self._wall_s, cpu_s - self._cpu_s)
        self._name, self._wall_s, self._cpu_s = name, wall_s, cpu_s

    def ended(self, name: str) -> m.Phase | None:
        """The phase of that name, if it has ended since the last `drain`."""
        return self._phases.get(name)

    def drain(self) -> tuple[m.Phase, ...]:
        """The phases ended so far; forgets them."""
        phases, self._phases = tuple(self._phases.values()), {}
        return phases

    def _book(self, wall_s: float, cpu_s: float) -> None:
        before = self._phases.get(self._name)
        sample, proportional = memory.tree(self._root), memory.proportional(self._root)
        self._phases[self._name] = m.Phase(
            name=self._name,
            wall_s=wall_s + (before.wall_s if before else 0.0),
            cpu_s=cpu_s + (before.cpu_s if before else 0.0),
            rss_bytes=sample.rss_bytes,
            anonymous_bytes=sample.anonymous_bytes,
            pss_bytes=None if proportional is None else proportional.pss_bytes,
            uss_bytes=None if proportional is None else proportional.uss_bytes,
            high_water_bytes=memory.high_water_bytes(),
        )
