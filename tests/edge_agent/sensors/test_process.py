"""Samples: a Linux 6.18 on x86-64, whose `cat` printed its own `status`, `smaps_rollup`, `stat` and `io`."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import process

STATUS = """\
Name:\tcat
Umask:\t0022
State:\tR (running)
VmPeak:\t    3060 kB
VmHWM:\t    1756 kB
VmRSS:\t    1756 kB
RssAnon:\t     108 kB
RssFile:\t    1648 kB
RssShmem:\t       0 kB
Threads:\t1
"""
ROLLUP = """\
55c5da174000-7ffe83cfe000 ---p 00000000 00:00 0                          [rollup]
Rss:                1756 kB
Pss:                 308 kB
Pss_Dirty:           108 kB
Pss_Anon:            108 kB
Shared_Clean:       1580 kB
Private_Clean:        68 kB
Private_Dirty:       108 kB
Anonymous:           108 kB
SwapPss:               0 kB
"""
STAT = "23919 (cat) R 23915 23915 17184 0 -1 4194304 102 0 3 0 0 0 0 0 20 0 1 0 2588866 3133440 412 1844674407370955\n"
IO = "rchar: 6976\nwchar: 0\nsyscr: 10\nsyscw: 0\nread_bytes: 4096\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
ROOT = Path("/")


def test_status_tells_resident_memory_and_its_mark() -> None:
    assert process.parse_status(STATUS) == (1756 * 1024, 108 * 1024, 1648 * 1024, 1756 * 1024)


def test_an_old_kernel_that_does_not_split_resident_memory_tells_none() -> None:
    assert process.parse_status("VmHWM:\t 100 kB\nVmRSS:\t 90 kB\n") == (90 * 1024, None, None, 100 * 1024)


def test_the_rollup_tells_shares_and_not_those_of_its_parts() -> None:
    assert process.parse_smaps_rollup(ROLLUP) == (308 * 1024, 176 * 1024)


def test_stat_tells_faults_whatever_the_program_is_called() -> None:
    assert process.parse_stat(STAT) == (102, 3)
    assert process.parse_stat(STAT.replace("(cat)", "(a) R 1 2 (b c)")) == (102, 3)


def test_io_tells_what_went_through_to_storage() -> None:
    assert process.parse_io(IO) == (4096, 0)


@pytest.mark.parametrize("text", ["", "VmRSS", "VmRSS: kB", "VmRSS: 12 MB", "1 (x) R 1"])
def test_what_is_not_told_is_none_and_never_zero(text: str) -> None:
    parsed = (process.parse_status, process.parse_smaps_rollup, process.parse_stat, process.parse_io)
    assert all(value is None for parse in parsed for value in parse(text))


@given(st.text())
def test_garbage_raises_nothing(text: str) -> None:
    for parse in (process.parse_status, process.parse_smaps_rollup, process.parse_stat, process.parse_io):
        parse(text)


def test_this_process_shows_what_it_does() -> None:
    before, faults = process.memory(ROOT), process.faults(ROOT)
    with mmap.mmap(-1, 2**24, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        taken.write(b"\1" * 2**24)
        after = process.memory(ROOT)
    assert before.anonymous_bytes is not None and after.anonymous_bytes is not None
    assert after.anonymous_bytes - before.anonymous_bytes >= 2**24 * 9 // 10
    assert after.peak_rss_bytes is not None and after.rss_bytes is not None
    assert after.peak_rss_bytes >= after.rss_bytes
    later = process.faults(ROOT)
    assert faults.minor is not None and later.minor is not None and later.minor > faults.minor
    assert process.memory(ROOT, str(os.getpid())).rss_bytes is not None
    assert process.shares(ROOT).pss_bytes is not None


def test_a_process_that_is_gone_tells_none(tmp_path: Path) -> None:
    assert process.memory(tmp_path) == (None, None, None, None)
    assert process.storage(tmp_path) == (None, None)
