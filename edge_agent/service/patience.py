"""When a trainer process counts as hung: it neither computes nor says anything.

Two rules, both with room for a slow board (a step of a large model takes a minute on a Raspberry Pi Zero 2 W):

- its processor time stands still for `STILL_S`: it was stopped, or waits for something that never comes. A trainer
  that is at work uses some in far less, however slow the board is;
- it has told of steps, and for many times as long as its slowest step took, and at least `LEAST_S`, of none: it turns
  in circles. What comes before and after the steps (loading, evaluation, compression) has the first rule only.
"""

from __future__ import annotations

STILL_S = 180.0
LEAST_S = 600.0
SLOWEST_STEPS = 30.0
"""How many times the slowest step so far may pass without a word."""


class Patience:
    """With one job. Times are monotonic seconds."""

    def __init__(self, now_s: float) -> None:
        self._cpu_s, self._cpu_moved_s = -1.0, now_s
        self._step, self._step_s = 0, now_s
        self._slowest_s: float | None = None

    def heard(self, step: int, steps: int, now_s: float) -> None:
        """The trainer told that `step` of `steps` is done."""
        if 0 < self._step < step:
            took_s = (now_s - self._step_s) / (step - self._step)
            self._slowest_s = max(self._slowest_s or 0.0, took_s)
        self._step, self._step_s = step, now_s
        if step == steps:
            self._slowest_s = None

    def lost(self, cpu_s: float, now_s: float) -> str | None:
        """Why the trainer, which has used `cpu_s` of processor time, counts as hung; None while it does not."""
        if cpu_s != self._cpu_s:
            self._cpu_s, self._cpu_moved_s = cpu_s, now_s
        if now_s - self._cpu_moved_s > STILL_S:
            return f"it has used no processor time for {now_s - self._cpu_moved_s:.0f} s"
        if self._slowest_s is None:
            return None
        limit_s = max(LEAST_S, SLOWEST_STEPS * self._slowest_s)
        if now_s - self._step_s <= limit_s:
            return None
        return f"no step for {now_s - self._step_s:.0f} s, where the slowest took {self._slowest_s:.1f} s"
