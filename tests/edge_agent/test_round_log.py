from __future__ import annotations

import logging
import stat
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.round_log import FORMER, NAME, ROUND_LINES, AnyEntry, PhaseEntry, RoundEntry, RoundLog, read_rounds
from edge_agent.wire.errors import StoreError
from tests.edge_agent.recorded import DEVICE_ENTRY, phase_entry
from tests.wire.examples import REPORT

KEEP = 3


def rounds_in(folder: Path) -> list[int]:
    return [entry.round for entry in read_rounds(folder) if isinstance(entry, PhaseEntry)]


def test_what_was_written_is_read_with_nothing_lost(tmp_path: Path) -> None:
    report = msgspec.structs.replace(REPORT, phases=())
    entries: list[AnyEntry] = [phase_entry(), phase_entry(phase="wait", energy_j=None, slowed=("throttled",))]
    entries.append(RoundEntry(DEVICE_ENTRY.date, "ab", 1, report))
    log = RoundLog(tmp_path, KEEP, DEVICE_ENTRY)
    for entry in entries:
        log.append(entry)
    assert read_rounds(tmp_path) == [DEVICE_ENTRY, *entries]


def test_what_cannot_be_measured_is_null_in_the_file(tmp_path: Path) -> None:
    RoundLog(tmp_path, KEEP, DEVICE_ENTRY).append(phase_entry(energy_j=None, temperature_c=None))
    line = msgspec.json.decode((tmp_path / NAME).read_bytes().splitlines()[1])
    assert line["energy_j"] is None and line["temperature_c"] is None


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    RoundLog(tmp_path, KEEP, DEVICE_ENTRY)
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=15), restarts=st.sets(st.integers(1, 15)))
def test_the_last_rounds_are_kept_and_no_more_than_two_files_of_them(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], restarts: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = RoundLog(folder, KEEP, DEVICE_ENTRY)
    for number, lines in enumerate(counts, 1):
        if number in restarts:
            log = RoundLog(folder, KEEP, DEVICE_ENTRY)
        for _ in range(lines):
            log.append(phase_entry(round=number))
    kept = list(dict.fromkeys(rounds_in(folder)))
    assert kept == list(range(1, len(counts) + 1))[-len(kept) :]
    assert min(KEEP, len(counts)) <= len(kept) <= 2 * KEEP
    assert [rounds_in(folder).count(number) for number in kept] == counts[-len(kept) :]


def test_a_round_that_begins_again_and_again_fills_no_disk(tmp_path: Path) -> None:
    log = RoundLog(tmp_path, 1, DEVICE_ENTRY)
    for _ in range(5 * ROUND_LINES):
        log.append(phase_entry())
    assert all(len((tmp_path / name).read_bytes().splitlines()) <= ROUND_LINES for name in (NAME, FORMER))


def test_a_line_that_a_power_cut_left_half_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    RoundLog(tmp_path, KEEP, DEVICE_ENTRY).append(phase_entry(round=1))
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[:-20])
    RoundLog(tmp_path, KEEP, DEVICE_ENTRY).append(phase_entry(round=2))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert rounds_in(tmp_path) == [2]
    assert "1 damaged lines are passed over" in caplog.text


@given(garbage=st.binary(max_size=200))
def test_garbage_is_passed_over(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    folder = tmp_path_factory.mktemp("log")
    (folder / NAME).write_bytes(garbage)
    RoundLog(folder, KEEP, DEVICE_ENTRY).append(phase_entry(round=7))
    assert rounds_in(folder) == [7]


def test_a_disk_that_takes_nothing_stops_the_record_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = RoundLog(tmp_path, KEEP, DEVICE_ENTRY)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    with caplog.at_level(logging.WARNING):
        log.append(phase_entry())
        log.append(phase_entry())
    assert caplog.text.count("rounds are recorded no more") == 1


def test_a_folder_without_a_record_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"expected the state_dir of an agent that has run with recorder\.enabled"):
        read_rounds(tmp_path)
