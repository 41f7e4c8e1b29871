"""What a person sees of running experiments: one line a finished run, and a live line on a terminal."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TextIO

from .record import Result
from .settings import BY_CLIENT, Run

_CLEAR = "\r\x1b[K"


@dataclass(frozen=True)
class Status:
    """Where a series of runs stands. `left_s` is None while nothing is known of their duration."""

    done: int
    total: int
    left_s: float | None


class Screen:
    """Lines on `stream`; what is live stays below them, on a terminal only."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._clear = _CLEAR if stream.isatty() else ""

    def line(self, text: str) -> None:
        """A line that stays."""
        print(f"{self._clear}{text}", file=self._stream, flush=True)

    def live(self, text: str) -> None:
        """A line that the next one replaces."""
        if self._clear:
            width = shutil.get_terminal_size().columns
            print(f"{self._clear}{text[: width - 1]}", end="", file=self._stream, flush=True)


def title(run: Run) -> str:
    """What tells a run from others of its experiment."""
    method = f"{run.method}+{run.extras}" if run.extras else run.method
    alpha = BY_CLIENT if run.alpha is None else f"{run.alpha:g}"
    return f"{method} {run.dataset} alpha {alpha} seed {run.seed} lr {run.options.training.lr:g}"


def finished_line(status: Status, result: Result, wall_s: float) -> str:
    """Of a run that is over."""
    return (
        f"[{status.done}/{status.total}] {title(result.run)}: accuracy {result.accuracy:.4f}, "
        f"{result.bytes_total / 1e6:.2f} MB, {wall_s:.0f} s; {time_left(status.left_s)}"
    )


def live_line(status: Status, running: list[str]) -> str:
    """Of runs that go on; `running` says of each what it is and where it stands."""
    return f"{status.done}/{status.total} done, {time_left(status.left_s)}; now {' | '.join(running)}"


def time_left(left_s: float | None) -> str:
    """An estimate for a person; None where nothing is known."""
    return "time left unknown" if left_s is None else f"about {duration(left_s)} left"


def duration(seconds: float) -> str:
    """Seconds for a person: the largest unit and the next."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
