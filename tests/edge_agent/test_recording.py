from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from edge_agent import session
from edge_agent.config import RecorderSettings
from edge_agent.recording import PHASES, Recording
from edge_agent.round_log import PhaseEntry, RoundEntry, read_rounds
from edge_agent.session import Phase
from edge_agent.wire import messages as m
from tests.agents import make_welcome, plan_for, seed_state
from tests.edge_agent.test_recorder import settings_in
from tests.wire.examples import REPORT

STATE = session.State("1.0", None, 0, welcome=make_welcome())
PLAN = plan_for(seed_state())
OFFER = m.Offer(4, m.ObjectRef("update", bytes(32), 5), REPORT)

Booked = Callable[[], list[tuple[str, int]]]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(settings_in(tmp_path), 2**28, lambda: None)


@pytest.fixture
def booked(tmp_path: Path) -> Booked:
    def read() -> list[tuple[str, int]]:
        entries = read_rounds(tmp_path / "state")
        return [(entry.phase, entry.round) for entry in entries if isinstance(entry, PhaseEntry)]

    return read


def test_every_phase_of_the_session_but_its_end_is_recorded() -> None:
    assert set(PHASES) == set(Phase) - {Phase.DONE}


def test_the_session_s_phases_become_those_of_rounds(recording: Recording, booked: Booked) -> None:
    for state in (
        STATE,
        replace(STATE, phase=Phase.IDLE),
        replace(STATE, phase=Phase.IDLE, online=True),
        replace(STATE, phase=Phase.CATCHING_UP, work=PLAN),
        replace(STATE, phase=Phase.OFFERING, work=PLAN, offer=OFFER),
        replace(STATE, phase=Phase.IDLE),
        replace(STATE, phase=Phase.DONE),
    ):
        recording.follow(state)
    assert booked() == [("join", 0), ("wait", 1), ("receive", 1), ("publish", 4), ("wait", 0)]


def test_a_newer_plan_in_the_same_phase_is_another_round(recording: Recording, booked: Booked) -> None:
    newer = msgspec.structs.replace(PLAN, round=2)
    recording.follow(replace(STATE, phase=Phase.CATCHING_UP, work=PLAN))
    recording.follow(replace(STATE, phase=Phase.CATCHING_UP, work=newer))
    recording.close()
    assert booked() == [("receive", 1), ("receive", 2)]


def test_a_report_is_kept_without_its_phases(recording: Recording, tmp_path: Path) -> None:
    recording.take_offer(OFFER)
    (entry,) = [one for one in read_rounds(tmp_path / "state") if isinstance(one, RoundEntry)]
    assert (entry.round, entry.report) == (4, msgspec.structs.replace(REPORT, phases=()))


def test_switched_off_it_does_nothing(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings_in(tmp_path), recorder=RecorderSettings(enabled=False))
    recording = Recording(settings, 2**28, lambda: None)
    recording.follow(STATE)
    recording.tick()
    recording.take_offer(OFFER)
    recording.restart_link()
    recording.close()
    assert not recording.is_on and list((tmp_path / "state").iterdir()) == []
