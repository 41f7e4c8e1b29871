"""Records what every phase of a round costs this device, in the resident supervisor; see `round_log` for the file.

The supervisor looks at the board's heat, clock and power once in a while; the trainer tells the end of each of its
phases, and what it used. A phase begins where the one before it ended, so that their times add up to the whole: the
first of a trainer holds its start too, and what another did that was killed and started again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from edge_agent import memory
from edge_agent.config import AgentConfig
from edge_agent.installed import commit, release
from edge_agent.looks import Looks
from edge_agent.meter import Account, TrafficMeter
from edge_agent.round_log import DeviceEntry, PhaseEntry, RoundEntry, RoundLog
from edge_agent.sensors import groups, system
from edge_agent.sensors.board import Board, identity
from edge_agent.sensors.process import Shares
from edge_agent.sensors.text import total
from edge_agent.spans import Span, SpanMeter
from edge_agent.wire import messages as m
from edge_agent.wire.link import Traffic

ROOT = Path("/")
NO_SHARES = Shares(None, None)
WAIT = "wait"
EXIT = "exit"
"""From the last phase that a trainer told: its process ends, or did not get to the end of the next phase."""


class Recorder:
    """Records for one agent."""

    def __init__(self, settings: AgentConfig, budget_bytes: int, traffic: Callable[[], Traffic | None]) -> None:
        """`traffic` counts the bytes on the present link's socket."""
        self._sample_s, self._traffic = settings.recorder.sample_s, traffic
        self._board, self._looks, self._spans = Board(), Looks(), SpanMeter()
        device = _device_entry(settings, budget_bytes, self._board.power_source)
        self._log = RoundLog(settings.state_dir, settings.recorder.keep_rounds, device)
        self._bytes = TrafficMeter(Account())
        self._name: str | None = None
        self._is_job = False
        self._round = 0
        self._run: str | None = None
        self._since_s = self._looked_s = time.monotonic()
        self._spent_s = 0.0

    @property
    def temperature_c(self) -> float | None:
        """Of the board, when it was last looked at; None where it does not tell."""
        look = self._looks.last
        return None if look is None else look.temperature_c

    def tick(self) -> None:
        """Looks at the board when it is time."""
        if time.monotonic() - self._looked_s >= self._sample_s:
            self._look()

    def enter(self, name: str | None, number: int, run: bytes | None, *, job: bool) -> None:
        """Ends the present phase and begins another, of round `number`; None begins none.

        Of a job, the trainer tells the phases (`take`), and `name` is not used.
        """
        if self._name == WAIT:  # for the round that now begins
            self._round = number
        if self._name is not None:
            self._end()
        self._name, self._is_job, self._round = name, job, number
        self._run = None if run is None else run.hex()

    def take(self, span: Span) -> None:
        """A trainer ended a phase."""
        self._look()
        self._book(self._spans.lap(span.name, NO_SHARES), span)

    def take_report(self, number: int, report: m.RoundReport) -> None:
        """A round's update is about to be offered."""
        self._log.append(RoundEntry(_now(), self._run, number, report))

    def restart_link(self) -> None:
        """A new link counts its bytes from zero."""
        self._bytes.take(self._traffic(), pack=False)
        self._bytes.restart()

    def _end(self) -> None:
        self._look()
        if not self._is_job:
            self._book(self._spans.lap(self._name or ""), None)
        else:
            self._book(self._spans.lap(EXIT), None)

    def _look(self) -> None:
        begin_s = time.thread_time()
        look = self._board.look()
        self._looked_s = look.time_s
        self._looks.add(look)
        self._spent_s += time.thread_time() - begin_s

    def _book(self, own: Span, trainer: Span | None) -> None:
        """Writes the phase from the end of the one before to the end of `trainer`, else of `own`."""
        begin_s = time.thread_time()
        start_s, end_s = self._since_s, own.end_s if trainer is None else max(self._since_s, trainer.end_s)
        up, down = self._bytes_since()
        seen, group = self._looks.between(start_s, end_s), groups.usage(ROOT)
        both = (own,) if trainer is None else (own, trainer)
        stalls = both[-1].stalls
        wall_s = end_s - start_s
        self._since_s = end_s
        self._looks.forget_before(end_s)
        self._log.append(
            PhaseEntry(
                date=_now(),
                run=self._run,
                round=self._round,
                phase=both[-1].name,
                wall_s=wall_s,
                supervisor_cpu_s=own.cpu_s,
                trainer_cpu_s=None if trainer is None else trainer.cpu_s,
                peak_rss_bytes=total([span.peak_rss_bytes for span in both]),
                peak_anonymous_bytes=total([span.peak_anonymous_bytes for span in both]),
                file_bytes=total([span.file_bytes for span in both]),
                pss_bytes=both[-1].pss_bytes,
                uss_bytes=both[-1].uss_bytes,
                available_bytes=system.meminfo(ROOT).available_bytes,
                group_bytes=group.current_bytes,
                group_peak_bytes=group.peak_bytes,
                cpu_stalled_s=stalls.cpu_s,
                memory_stalled_s=stalls.memory_s,
                io_stalled_s=stalls.io_s,
                minor_faults=total([span.minor_faults for span in both]),
                major_faults=total([span.major_faults for span in both]),
                read_bytes=total([span.read_bytes for span in both]),
                written_bytes=total([span.written_bytes for span in both]),
                bytes_up=up,
                bytes_down=down,
                temperature_c=seen.temperature_c,
                clock_hz=seen.clock_hz,
                gpu_clock_hz=seen.gpu_clock_hz,
                slowed=seen.slowed,
                energy_j=seen.energy_j,
                power_w=seen.energy_j / wall_s if seen.energy_j is not None and wall_s > 0 else None,
                recording_cpu_s=self._spent_s + sum(span.measuring_cpu_s for span in both),
            )
        )
        self._spent_s = time.thread_time() - begin_s

    def _bytes_since(self) -> tuple[int | None, int | None]:
        """Bytes up and down since the phase before; None where the link does not count them."""
        traffic = self._traffic()
        if traffic is None:
            return None, None
        self._bytes.take(traffic, pack=False)
        account, self._bytes.account = self._bytes.account, Account()
        return account.bytes_up, account.bytes_down


def _device_entry(settings: AgentConfig, budget_bytes: int, power_source: str | None) -> DeviceEntry:
    board = identity()
    return DeviceEntry(
        date=_now(),
        device=settings.device,
        fleet=settings.fleet,
        model=board.model,
        system=board.system,
        kernel=board.kernel,
        machine=board.machine,
        governor=board.governor,
        power_mode=board.power_mode,
        core_volts=board.core_volts,
        cores=os.cpu_count(),
        memory_bytes=memory.total_bytes(),
        budget_bytes=budget_bytes,
        threads=settings.threads,
        engine=settings.engine,
        products=settings.products,
        version=release(),
        commit=commit(),
        sample_s=settings.recorder.sample_s,
        power_source=power_source,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
