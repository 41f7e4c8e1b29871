from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading

import psutil
import pytest

from edge_agent import memory
from edge_agent.memory import PeakSampler, Sample

LARGE_BYTES = 64 * 2**20
CHILD = "import sys; block = bytearray(64 * 2**20); print(flush=True); sys.stdin.read()"


def allocated() -> mmap.mmap:
    """Anonymous memory, touched, that goes back to the system when closed."""
    block = mmap.mmap(-1, LARGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, LARGE_BYTES, mmap.PAGESIZE):
        block[offset] = 1
    return block


def test_the_peak_outlives_an_allocation_and_can_be_forgotten() -> None:
    with PeakSampler() as sampler:
        before = sampler.peak()
        block = allocated()
        sampler.peak()
        block.close()
        peak = sampler.peak()
        assert peak.anonymous_bytes - before.anonymous_bytes > 0.9 * LARGE_BYTES
        assert peak.rss_bytes >= peak.anonymous_bytes
        sampler.restart()
        assert sampler.peak().anonymous_bytes < peak.anonymous_bytes - LARGE_BYTES / 2


def test_the_sampler_follows_by_itself_and_keeps_each_highest() -> None:
    samples, seen = iter([Sample(1, 1), Sample(9, 2), Sample(3, 7)]), threading.Event()

    def measure() -> Sample:
        sample = next(samples, None)
        if sample is None:
            seen.set()
        return sample or Sample(0, 0)

    with PeakSampler(measure) as sampler:
        assert seen.wait(timeout=30)
    assert sampler.peak() == Sample(9, 7)


def test_a_tree_counts_its_children_while_they_live() -> None:
    me = psutil.Process()
    before = memory.tree(me)
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout, child:
        child.stdout.readline()
        assert memory.tree(me).anonymous_bytes - before.anonymous_bytes > 0.9 * LARGE_BYTES
        child.kill()
    assert memory.tree(me).anonymous_bytes - before.anonymous_bytes < LARGE_BYTES / 2


def test_a_process_alone_is_part_of_its_tree() -> None:
    own, tree = memory.own(), memory.tree(psutil.Process())
    assert 0 < own.anonymous_bytes <= own.rss_bytes <= tree.rss_bytes * 1.1


def test_the_system_has_more_than_is_available() -> None:
    assert 0 < memory.available_bytes() < memory.total_bytes()


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no procfs: the kernel does not tell")  # noqa: PTH110
def test_the_high_water_mark_is_never_below_what_is_used_now() -> None:
    mark = memory.high_water_bytes()
    assert mark is not None and mark >= 0.9 * memory.own().rss_bytes


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells PSS and USS")
def test_what_is_its_own_is_less_than_its_share_is_less_than_all() -> None:
    me = psutil.Process()
    proportional = memory.proportional(me)
    assert proportional is not None
    assert 0 < proportional.uss_bytes <= proportional.pss_bytes <= 1.1 * memory.tree(me).rss_bytes
