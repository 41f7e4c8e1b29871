"""The recorder by itself, and in the real agent with its real trainer process."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from edge_agent.config import AgentConfig, RecorderSettings
from edge_agent.recorder import EXIT, WAIT, Recorder
from edge_agent.round_log import NAME, DeviceEntry, PhaseEntry, RoundEntry, read_rounds
from edge_agent.sensors.board import Board
from edge_agent.spans import Span, Stalls
from edge_agent.wire import messages as m
from edge_agent.wire.link import Traffic
from edge_agent.wire.memory_link import MemoryBroker
from edge_agent.wire.settings import BrokerSettings
from tests.agents import Gateway, plan_for, seed_state, write_data
from tests.edge_agent.test_agent import DEVICE, AgentThread, make_settings

RUN = bytes(range(16))
Made = tuple[Recorder, list[Traffic]]


def settings_in(folder: Path, **recorder: object) -> AgentConfig:
    (folder / "state").mkdir()
    settings = AgentConfig(DEVICE, "depot", write_data(folder / "texts.jsonl"), folder / "state", BrokerSettings())
    return msgspec.structs.replace(settings, recorder=RecorderSettings(**recorder))  # type: ignore[arg-type]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    counts = [Traffic(0, 0)]
    return Recorder(settings_in(tmp_path), 2**28, lambda: counts[-1]), counts


def phases(folder: Path) -> list[PhaseEntry]:
    return [entry for entry in read_rounds(folder / "state") if isinstance(entry, PhaseEntry)]


def span(name: str, end_s: float) -> Span:
    return Span(name, end_s, 0.75, 3000, 2000, 1000, None, 5, 6, 7, 8, 9, Stalls(0.5, None, 0.25), 0.002)


def test_times_add_up_to_the_whole_and_bytes_are_booked_once(made: Made, tmp_path: Path) -> None:
    recorder, counts = made
    start_s = time.monotonic()
    recorder.enter("receive", 1, RUN, job=False)
    first_s = time.monotonic()
    counts.append(Traffic(10, 200))
    time.sleep(0.02)
    recorder.enter("train", 1, RUN, job=True)
    time.sleep(0.02)
    counts.append(Traffic(15, 200))
    recorder.take(span("load", time.monotonic()))
    time.sleep(0.02)
    recorder.take(span("train", time.monotonic()))
    recorder.enter("publish", 1, RUN, job=False)
    counts.append(Traffic(400, 260))
    recorder.enter(None, 0, None, job=False)
    end_s = time.monotonic()
    found = phases(tmp_path)
    assert [one.phase for one in found] == ["receive", "load", "train", "exit", "publish"]
    assert [(one.bytes_up, one.bytes_down) for one in found] == [(10, 200), (5, 0), (0, 0), (0, 0), (385, 60)]
    assert {(one.run, one.round) for one in found} == {(RUN.hex(), 1)}
    assert end_s - first_s <= sum(one.wall_s for one in found) + 1e-6 <= end_s - start_s + 1


def test_a_trainer_s_phase_holds_both_processes(made: Made, tmp_path: Path) -> None:
    recorder, _ = made
    recorder.enter("train", 3, RUN, job=True)
    recorder.take(span("load", time.monotonic()))
    recorder.enter("publish", 3, RUN, job=False)
    recorder.enter(None, 0, None, job=False)
    load, _, publish = phases(tmp_path)
    assert load.trainer_cpu_s == 0.75 and publish.trainer_cpu_s is None
    assert (load.pss_bytes, load.uss_bytes) == (None, 5), "the trainer counts those of both"
    assert load.major_faults is not None and load.major_faults >= 7
    assert load.peak_rss_bytes is not None and publish.peak_rss_bytes is not None
    assert load.peak_rss_bytes > 3000 and publish.uss_bytes is not None and publish.uss_bytes > 10**6
    assert 0.002 < load.recording_cpu_s < 0.1
    assert (load.cpu_stalled_s, load.memory_stalled_s, load.io_stalled_s) == (0.5, None, 0.25)


def test_waiting_belongs_to_the_round_that_it_ends_with(made: Made, tmp_path: Path) -> None:
    recorder, _ = made
    recorder.enter(WAIT, 0, RUN, job=False)
    recorder.enter("receive", 9, RUN, job=False)
    recorder.enter(WAIT, 0, RUN, job=False)
    recorder.enter(None, 0, None, job=False)
    assert [(one.phase, one.round) for one in phases(tmp_path)] == [("wait", 9), ("receive", 9), ("wait", 0)]


def test_what_a_trainer_left_unfinished_is_not_lost(made: Made, tmp_path: Path) -> None:
    recorder, _ = made
    recorder.enter("train", 2, RUN, job=True)
    recorder.take(span("load", time.monotonic()))
    time.sleep(0.1)
    recorder.enter("receive", 3, RUN, job=False)
    recorder.enter(None, 0, None, job=False)
    found = phases(tmp_path)
    assert [(one.phase, one.round) for one in found] == [("load", 2), (EXIT, 2), ("receive", 3)]
    assert found[1].wall_s >= 0.1 and found[1].trainer_cpu_s is None


def test_a_new_link_counts_from_zero(made: Made, tmp_path: Path) -> None:
    recorder, counts = made
    recorder.enter("join", 0, None, job=False)
    counts.append(Traffic(100, 50))
    recorder.restart_link()
    counts.append(Traffic(7, 3))
    recorder.enter(None, 0, None, job=False)
    assert [(one.bytes_up, one.bytes_down, one.run) for one in phases(tmp_path)] == [(107, 53, None)]


def test_a_link_that_does_not_count_has_no_bytes(tmp_path: Path) -> None:
    recorder = Recorder(settings_in(tmp_path), 2**28, lambda: None)
    recorder.enter("join", 0, None, job=False)
    recorder.enter(None, 0, None, job=False)
    assert [(one.bytes_up, one.bytes_down) for one in phases(tmp_path)] == [(None, None)]


def test_the_board_is_looked_at_no_more_often_than_asked_for(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = made
    looked = list[float]()
    look = recorder._board.look
    monkeypatch.setattr(recorder._board, "look", lambda: looked.append(0) or look())
    for _ in range(100):
        recorder.tick()
    assert looked == []
    recorder._sample_s = 0.0
    recorder.tick()
    assert len(looked) == 1


def run_a_round(settings: AgentConfig) -> Gateway:
    broker = MemoryBroker(max_payload_bytes=16_384)
    gateway = Gateway(broker, DEVICE)
    agent = AgentThread(broker, settings)
    gateway.welcomes()
    gateway.say(plan_for(seed_state()))
    offer = gateway.hears(m.Offer)
    gateway.pulls(offer)
    gateway.say(m.Acknowledged(1, offer.update.sha256))
    gateway.say(m.Leave("the test is over"))
    gateway.hears(m.Offline)
    agent.ends()
    return gateway


def test_an_agent_records_every_phase_of_a_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Board, "_temperature_c", lambda _: 61.5)
    settings = make_settings(tmp_path)
    gateway = run_a_round(settings)
    told = [message.temperature_c for message in gateway.heard if isinstance(message, m.Progress)]
    assert told and set(told) == {61.5}
    entries = read_rounds(settings.state_dir)
    assert isinstance(entries[0], DeviceEntry) and (entries[0].device, entries[0].fleet) == (DEVICE, settings.fleet)
    found = {entry.phase: entry for entry in entries if isinstance(entry, PhaseEntry)}
    joining = ["join", "fetch", "measure", "exit", "wait", "receive"]
    training = ["load", "evaluate", "train", "score", "compress", "commit"]
    assert [entry.phase for entry in entries if isinstance(entry, PhaseEntry)][:13] == [*joining, *training, "exit"]
    assert {found[name].round for name in (*training, "wait", "receive", "publish")} - {1} <= {0}
    assert {found[name].round for name in (*training, "receive", "publish")} == {1}
    for name in (*training, "measure"):
        one = found[name]
        assert one.trainer_cpu_s is not None and one.trainer_cpu_s >= 0
        assert one.peak_rss_bytes is not None and one.peak_anonymous_bytes is not None
        assert one.peak_rss_bytes > one.peak_anonymous_bytes > 0
    assert found["load"].trainer_cpu_s is not None and found["load"].trainer_cpu_s > 0.1, "with the start of Python"
    assert found["fetch"].bytes_down is not None and found["fetch"].bytes_down > 1000
    assert found["publish"].bytes_up is not None and found["publish"].bytes_up > 0
    (report,) = [entry for entry in entries if isinstance(entry, RoundEntry)]
    assert (report.round, report.report.phases, report.run) == (1, (), bytes(16).hex())


def test_an_agent_that_is_told_not_to_records_nothing(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(make_settings(tmp_path), recorder=RecorderSettings(enabled=False))
    run_a_round(settings)
    assert not (settings.state_dir / NAME).exists()


def test_progress_carries_the_temperature_of_the_last_look(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, _ = made
    assert recorder.temperature_c is None, "nobody has looked"
    look = recorder._board.look
    for heat_c in (61.5, None):
        monkeypatch.setattr(recorder._board, "look", lambda heat_c=heat_c: look()._replace(temperature_c=heat_c))
        recorder.enter(WAIT, 1, RUN, job=False)
        recorder.enter(WAIT, 2, RUN, job=False)
        assert recorder.temperature_c == heat_c
