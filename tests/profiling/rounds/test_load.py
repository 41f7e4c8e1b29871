from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.round_log import RoundLog
from edge_agent.wire.errors import ConfigError
from profiling.rounds.load import Key, load_run
from tests.edge_agent.recorded import DEVICE_ENTRY, phase_entry
from tests.profiling.rounds.recordings import RUN, demo, record, round_entry
from tests.runs import make_config, make_run, make_state


def test_a_state_folder_is_one_device(tmp_path: Path) -> None:
    (device,) = load_run(record(tmp_path, [3.0, 4.0])).devices
    assert (device.name, device.trained, device.entry) == ("pi-1", [1, 2], DEVICE_ENTRY)
    assert device.phases[Key(2, "train")].wall_s == 4.0
    assert [entry.phase for entry in device.of_round(1)] == ["wait", "receive", "load", "train", "publish"]


def test_a_demo_is_all_of_its_devices_with_what_the_coordinator_recorded(tmp_path: Path) -> None:
    make_run(make_config(tmp_path), make_state(3))
    run = load_run(demo(tmp_path, [3.0]))
    assert [device.name for device in run.devices] == ["a", "b"]
    assert len(run.records) == 3


def test_a_phase_that_was_begun_again_is_one_phase(tmp_path: Path) -> None:
    log = RoundLog(tmp_path, 9, DEVICE_ENTRY)
    log.append(phase_entry(phase="load", wall_s=2.0, energy_j=8.0, peak_rss_bytes=9, clock_hz=5, slowed=("throttled",)))
    log.append(phase_entry(phase="load", wall_s=3.0, energy_j=12.0, peak_rss_bytes=7, clock_hz=6, slowed=()))
    (entry,) = load_run(tmp_path).devices[0].phases.values()
    assert (entry.wall_s, entry.energy_j, entry.power_w) == (5.0, 20.0, 4.0)
    assert (entry.peak_rss_bytes, entry.clock_hz, entry.slowed) == (9, 5, ("throttled",))


def test_what_one_part_of_a_phase_does_not_tell_is_not_told_of_the_whole(tmp_path: Path) -> None:
    log = RoundLog(tmp_path, 9, DEVICE_ENTRY)
    log.append(phase_entry(energy_j=8.0, bytes_up=None))
    log.append(phase_entry(energy_j=None, bytes_up=5))
    (entry,) = load_run(tmp_path).devices[0].phases.values()
    assert (entry.energy_j, entry.power_w, entry.bytes_up) == (None, None, None)


def test_of_several_runs_the_last_counts(tmp_path: Path) -> None:
    log = RoundLog(tmp_path, 9, DEVICE_ENTRY)
    log.append(phase_entry(run="ff" * 16, wall_s=99.0))
    log.append(phase_entry(run=RUN, wall_s=3.0))
    log.append(round_entry(1))
    (device,) = load_run(tmp_path).devices
    assert [entry.wall_s for entry in device.phases.values()] == [3.0]


def test_rounds_that_only_looked_at_the_data_are_told_apart(tmp_path: Path) -> None:
    log = RoundLog(tmp_path, 9, DEVICE_ENTRY)
    log.append(round_entry(1, steps=0, loss=None, step_s=None))
    log.append(round_entry(2, steps=3))
    assert load_run(tmp_path).devices[0].trained == [2]


def test_a_folder_without_a_record_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected an agent's state_dir"):
        load_run(tmp_path)
