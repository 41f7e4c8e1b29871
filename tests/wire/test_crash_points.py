"""Points at which a process dies if it is told to, each of which stands in the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.wire.crash_points import CRASH_AT, MARKER, Crash, Point, crash_in, environment, reach
from edge_agent.wire.errors import ConfigError

ROOT = Path(__file__).parents[2]
PASSES = """
from edge_agent.wire.crash_points import Point, reach
for number in range(3):
    reach(Point.AGENT_SETTLED)
    reach(Point.AGENT_OFFER_SENT)
    reach(None)
    print(number, flush=True)
"""


def passes(crash: Crash) -> tuple[int, list[str]]:
    """The exit status, and what was printed."""
    done = subprocess.run(
        [sys.executable, "-c", PASSES], env=environment(crash), cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.split()


@pytest.mark.parametrize("occasion", [1, 2, 3])
def test_a_process_dies_where_it_is_told_to_and_the_next_one_goes_on(tmp_path: Path, occasion: int) -> None:
    crash = Crash(Point.AGENT_OFFER_SENT, occasion, tmp_path / "reached")
    assert passes(crash) == (-9, [str(number) for number in range(occasion - 1)])
    assert passes(crash) == (0, ["0", "1", "2"])
    assert crash.marker.stat().st_size == occasion + 3


def test_occasions_are_counted_over_all_processes(tmp_path: Path) -> None:
    crash = Crash(Point.AGENT_OFFER_SENT, 5, tmp_path / "reached")
    assert passes(crash) == (0, ["0", "1", "2"])
    assert passes(crash) == (-9, ["0"])


def test_a_point_that_is_not_reached_leaves_no_mark(tmp_path: Path) -> None:
    crash = Crash(Point.AGENT_HELLO_SENT, 1, tmp_path / "reached")
    assert passes(crash) == (0, ["0", "1", "2"])
    assert not crash.marker.exists()


def test_without_the_variables_nothing_happens() -> None:
    assert crash_in({}) is None
    for point in Point:
        reach(point)


def test_a_point_without_a_number_is_the_first_time(tmp_path: Path) -> None:
    variables = {CRASH_AT: "TRAINER_STEPPED", MARKER: str(tmp_path / "m")}
    assert crash_in(variables) == Crash(Point.TRAINER_STEPPED, 1, tmp_path / "m")


@pytest.mark.parametrize(
    "variables",
    [{CRASH_AT: "NOWHERE", MARKER: "m"}, {CRASH_AT: "TRAINER_STEPPED"}, {CRASH_AT: "TRAINER_STEPPED#x", MARKER: "m"}],
)
def test_a_point_that_does_not_exist_is_refused(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"one of edge_agent/wire/crash_points\.py"):
        crash_in(variables)


def test_every_point_stands_in_the_code_of_its_process_exactly_once() -> None:
    places = {"AGENT": "edge_agent", "TRAINER": "edge_agent", "COORDINATOR": "coordinator"}
    for point in Point:
        folder = ROOT / places[point.name.partition("_")[0]]
        code = [path.read_text() for path in folder.rglob("*.py") if path.name != "crash_points.py"]
        assert sum(len(re.findall(rf"\bPoint\.{point.name}\b", text)) for text in code) == 1, point
