"""The coordinator's events as lines for a person."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from coordinator import events
from deploy.progress import Progress, megabytes
from edge_agent.wire import messages as m
from tests.runs import make_record
from tests.wire.examples import REPORT

ONE_OF_EACH: dict[type[events.Watched], tuple[events.Watched, str]] = {
    events.Listening: (events.Listening("127.0.0.1", 1883, "depot"), "fleet depot"),
    events.Mended: (events.Mended(3, 4, "the checkpoint is damaged"), "from version 3 of 4: the checkpoint is damaged"),
    events.Joined: (events.Joined("pi-1", 40, 224_000_000), "pi-1 joined: 40 examples, budget 224.0 MB"),
    events.Left: (events.Left("pi-1", "stopped"), "pi-1 went offline: stopped"),
    events.Waiting: (events.Waiting("1 of 2 devices are ready"), "waiting: 1 of 2 devices are ready"),
    events.Opened: (
        events.Opened(2, 12, ("pi-1", "pi-2"), 96, "train"),
        "round 2/12: 96 ranks alive, training on pi-1, pi-2",
    ),
    events.Training: (events.Training("pi-1", 2, "train", 5, 12, 0.75, None), "step 5/12  loss 0.750"),
    events.Received: (events.Received("pi-1", 2, REPORT), "96 ranks, 4 blocks, 1 kept, micro-batch 2"),
    events.Flooding: (events.Flooding("pi-1", 200.0), "pi-1 sends over 200 messages a second"),
    events.Objective: (
        events.Objective("devices", False, 1.0, 3.0, "2026-11-26T12:00:00+00:00"),
        "objective devices MISSED: 1, asked for 3",
    ),
    events.Refused: (events.Refused("pi-1", "did training diverge?"), "pi-1: did training diverge?"),
    events.Closed: (events.Closed(make_record(2)), "round 2 closed: hold-out accuracy before it 0.400"),
    events.Finished: (events.Finished("pi-1", m.Finished(3, 0.9, 1, 2, 3)), "final model: hold-out accuracy 0.900"),
    events.Done: (events.Done(12, ("pi-2",)), "after 12 rounds; missing pi-2"),
}


def test_there_is_an_example_of_every_event() -> None:
    assert set(ONE_OF_EACH) == set(get_args(events.AnyEvent)) == set(events.Watched.__subclasses__())


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.__name__)
def test_every_event_has_a_line(kind: type[events.Watched]) -> None:
    event, part = ONE_OF_EACH[kind]
    line = Progress().line(event)
    assert line is not None
    assert part in line
    assert "\n" not in line


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda kind: kind.__name__)
def test_every_event_survives_its_line_of_json(kind: type[events.Watched]) -> None:
    event, _ = ONE_OF_EACH[kind]
    assert msgspec.json.decode(msgspec.json.encode(event), type=events.AnyEvent) == event


def test_a_quarter_of_a_round_is_worth_a_line_and_the_last_step_is_not() -> None:
    progress = Progress()
    told = [progress.line(events.Training("pi-1", 1, "train", step, 8, 1.0, None)) for step in range(9)]
    assert [step for step, line in enumerate(told) if line is not None] == [2, 4, 6]
    assert progress.line(events.Training("pi-1", 2, "train", 2, 8, 1.0, None)) is not None
    assert progress.line(events.Training("pi-2", 1, "train", 2, 8, 1.0, None)) is not None


def test_a_loss_that_is_not_finite_is_told() -> None:
    assert "diverged" in str(Progress().line(events.Training("pi-1", 1, "train", 4, 8, None, None)))


def test_a_round_in_which_nobody_trains_says_what_it_is_for() -> None:
    line = Progress().line(events.Opened(1, 12, ("pi-1", "pi-2"), 96, "class_means"))
    assert line == "round 1/12: statistics of the classes on pi-1, pi-2"


def test_progress_without_steps_is_no_error() -> None:
    assert Progress().line(events.Training("pi-1", 1, "train", 0, 0, 1.0, None)) is None


def test_what_is_not_there_is_left_out() -> None:
    unknown = msgspec.structs.replace(make_record(1), accuracy=None)
    assert "hold-out" not in str(Progress().line(events.Closed(unknown)))
    assert "no hold-out" in str(Progress().line(events.Finished("pi-1", m.Finished(3, None, 1, 2, 3))))
    assert Progress().line(events.Done(12, ())) == "run over after 12 rounds"


def test_a_round_in_which_nobody_trained_has_no_loss() -> None:
    looked = msgspec.structs.replace(REPORT, steps=0, loss=None, step_s=None, ranks=0, depth=0, kept_blocks=0)
    line = str(Progress().line(events.Received("pi-1", 1, looked)))
    assert "statistics of the classes of 300 examples, micro-batch 2" in line and "loss" not in line
    record = msgspec.structs.replace(make_record(1), loss=None)
    line = str(Progress().line(events.Closed(record)))
    assert "hold-out accuracy before it 0.200  59 ranks" in line and "loss" not in line


@pytest.mark.parametrize(("count", "shown"), [(0, "0.0 kB"), (999_949, "999.9 kB"), (1_000_000, "1.0 MB")])
def test_bytes_for_a_person(count: int, shown: str) -> None:
    assert megabytes(count) == shown
