"""What a person sees of a soak that runs: a live line on a terminal, and now and then a line that stays."""

from __future__ import annotations

from profiling.experiments.progress import Screen, duration, time_left

_LINES = 20
"""How many lines stay in all."""


class Progress:
    """Tells of every closed round of `rounds`."""

    def __init__(self, screen: Screen, rounds: int) -> None:
        self._screen = screen
        self._rounds = rounds

    def __call__(self, number: int, elapsed_s: float) -> None:
        """Round `number` closed `elapsed_s` seconds after the start."""
        left_s = elapsed_s / number * (self._rounds - number)
        text = f"round {number} of {self._rounds} closed after {duration(elapsed_s)}; {time_left(left_s)}"
        if number % max(1, self._rounds // _LINES) == 0:
            self._screen.line(text)
        else:
            self._screen.live(text)
