"""What a person sees."""

from __future__ import annotations

from io import StringIO

import pytest

from profiling.experiments.progress import Screen, Status, duration, finished_line, live_line, title
from tests.experiments import make_result, make_run, make_screen


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_live_lines_are_for_terminals_only() -> None:
    screen, shown = make_screen()
    screen.live("half")
    screen.line("whole")
    assert shown() == ["whole"]
    terminal = Terminal()
    Screen(terminal).live("x" * 1000)
    Screen(terminal).line("whole")
    assert terminal.getvalue().endswith("\r\x1b[Kwhole\n")
    assert len(terminal.getvalue()) < 1000


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7300, "2 h 1 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_titles_tell_the_runs_of_an_experiment_apart() -> None:
    assert title(make_run()) == "fedara ag_news alpha 0.1 seed 0 lr 0.009"
    assert title(make_run(alpha=None, extras="int4")) == "fedara+int4 ag_news alpha client seed 0 lr 0.009"


def test_a_finished_run_has_a_line() -> None:
    line = finished_line(Status(3, 9, 3700.0), make_result(make_run()), 61.2)
    assert line.startswith("[3/9] fedara ag_news")
    assert line.endswith("accuracy 0.5000, 0.02 MB, 61 s; about 1 h 1 min left")


def test_the_live_line_says_what_runs() -> None:
    assert live_line(Status(0, 2, None), ["a", "b"]) == "0/2 done, time left unknown; now a | b"
