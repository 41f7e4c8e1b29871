from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

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
    me = os.getpid()
    before = memory.tree(me)
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout, child:
        child.stdout.readline()
        assert memory.tree(me).anonymous_bytes - before.anonymous_bytes > 0.9 * LARGE_BYTES
        child.kill()
    assert memory.tree(me).anonymous_bytes - before.anonymous_bytes < LARGE_BYTES / 2


def test_a_process_alone_is_part_of_its_tree() -> None:
    own, tree = memory.own(), memory.tree(os.getpid())
    assert 0 < own.anonymous_bytes <= own.rss_bytes <= tree.rss_bytes * 1.1


def test_the_system_has_more_than_is_available() -> None:
    assert 0 < memory.available_bytes() < memory.total_bytes()


def group(folder: Path, limit: str, used_bytes: int, stat: str, *, unified: bool) -> None:
    """The files of a control group."""
    names = ("memory.max", "memory.current") if unified else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip((*names, "memory.stat"), (limit, str(used_bytes), stat), strict=True):
        (folder / name).write_text(f"{text}\n", encoding="ascii")


def own_groups(folder: Path, *lines: str) -> Path:
    path = folder / "own"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def test_a_limit_of_version_2_leaves_its_rest_and_the_file_pages(tmp_path: Path) -> None:
    stat = "anon 500\nactive_file 30\ninactive_file 20"
    group(tmp_path / "a" / "b", "1000", 600, stat, unified=True)
    group(tmp_path / "a", "max", 600, stat, unified=True)
    assert memory.group_room_bytes(own_groups(tmp_path, "0::/a/b"), tmp_path) == 450


def test_a_limit_of_version_1_counts_the_groups_below_too(tmp_path: Path) -> None:
    stat = "active_file 1\ninactive_file 1\ntotal_active_file 30\ntotal_inactive_file 20"
    group(tmp_path / "memory" / "a", "1000", 600, stat, unified=False)
    own = own_groups(tmp_path, "5:cpu,cpuacct:/other", "4:memory:/a", "0::/")
    assert memory.group_room_bytes(own, tmp_path) == 450


def test_the_tightest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    stat = "active_file 0\ninactive_file 0"
    group(tmp_path / "a" / "b", "1000", 100, stat, unified=True)
    group(tmp_path / "a", "1000", 980, stat, unified=True)
    assert memory.group_room_bytes(own_groups(tmp_path, "0::/a/b"), tmp_path) == 20
    group(tmp_path / "a", "900", 980, stat, unified=True)
    assert memory.group_room_bytes(own_groups(tmp_path, "0::/a/b"), tmp_path) == 0


def test_without_groups_or_limits_the_room_is_endless(tmp_path: Path) -> None:
    group(tmp_path / "a", "max", 600, "active_file 0", unified=True)
    assert memory.group_room_bytes(own_groups(tmp_path, "0::/a"), tmp_path) == memory.ENDLESS_BYTES
    assert memory.group_room_bytes(own_groups(tmp_path, "0::/not/to/be/seen"), tmp_path) == memory.ENDLESS_BYTES
    assert memory.group_room_bytes(tmp_path / "nowhere", tmp_path) == memory.ENDLESS_BYTES


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no procfs: the kernel does not tell")  # noqa: PTH110
def test_the_high_water_mark_is_never_below_what_is_used_now() -> None:
    mark = memory.high_water_bytes()
    assert mark is not None and mark >= 0.9 * memory.own().rss_bytes


@pytest.mark.skipif(not psutil.LINUX, reason="only Linux tells PSS and USS")
def test_what_is_its_own_is_less_than_its_share_is_less_than_all() -> None:
    me = os.getpid()
    proportional = memory.proportional(me)
    assert proportional is not None
    assert 0 < proportional.uss_bytes <= proportional.pss_bytes <= 1.1 * memory.tree(me).rss_bytes


def test_what_no_count_of_a_process_shows_can_be_counted_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BESIDE", [])
    before, child = memory.own(), os.getppid()
    of_another = memory.tree(child).anonymous_bytes - memory.own().anonymous_bytes

    def held_bytes() -> int:
        return 2**40

    memory.count_beside(held_bytes)
    memory.count_beside(held_bytes)
    now = memory.own()
    assert 2**40 <= now.anonymous_bytes < 2**40 + before.anonymous_bytes + LARGE_BYTES
    assert now.rss_bytes > 2**40 and memory.tree(os.getpid()).anonymous_bytes > 2**40
    assert memory.tree(child).anonymous_bytes < 2**41 + of_another, "once, and of this process alone"
    with PeakSampler() as sampler:
        assert sampler.peak().anonymous_bytes > 2**40
