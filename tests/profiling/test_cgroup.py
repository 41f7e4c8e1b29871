"""The limit holds for all that runs in the group, and what is reported is what was used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.wire.errors import RankfleetError
from profiling.cgroup import MemoryCgroup, drop_caches, find_place, memory_cgroup

MIB = 2**20
LIMIT_BYTES = 64 * MIB


@pytest.fixture
def group() -> Iterator[MemoryCgroup]:
    try:
        made = memory_cgroup(LIMIT_BYTES)
        group = made.__enter__()
    except RankfleetError as error:
        pytest.skip(f"NOT TESTED: no memory cgroup can be made here: {error}")
    yield group
    made.__exit__(None, None, None)


def _run(group: MemoryCgroup, code: str) -> subprocess.CompletedProcess[str]:
    command = group.command([sys.executable, "-c", code])
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_a_process_takes_is_counted(group: MemoryCgroup) -> None:
    assert _run(group, f"x = bytearray({20 * MIB}); print(len(x))").stdout == f"{20 * MIB}\n"
    usage = group.usage()
    assert 20 * MIB < usage.peak_bytes <= usage.limit_bytes == LIMIT_BYTES
    assert usage.oom_kills == 0


def test_more_than_the_limit_is_killed_and_counted(group: MemoryCgroup) -> None:
    assert _run(group, f"x = bytearray({2 * LIMIT_BYTES})").returncode == -9
    usage = group.usage()
    assert usage.limit_hits > 0
    assert usage.oom_kills == 1


def test_children_are_in_the_group_too(group: MemoryCgroup) -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', 'bytearray({20 * MIB})'], check=True)"
    assert _run(group, code).returncode == 0
    assert group.usage().peak_bytes > 20 * MIB


def test_file_pages_go_when_the_limit_is_met(group: MemoryCgroup, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(2 * LIMIT_BYTES))
    try:
        drop_caches()
    except RankfleetError as error:
        pytest.skip(f"NOT TESTED: {error}")
    code = f"f = open({str(path)!r}, 'rb')\nfor _ in 0, 1:\n    f.seek(0)\n    while f.read({MIB}): pass"
    assert _run(group, code).returncode == 0
    usage = group.usage()
    if usage.peak_bytes < LIMIT_BYTES // 2:
        pytest.skip("NOT TESTED: reading a file charges no pages here (a file system in memory)")
    assert usage.limit_hits > 0
    assert usage.oom_kills == 0


def test_the_group_is_gone_at_the_end() -> None:
    try:
        with memory_cgroup(LIMIT_BYTES) as group:
            assert group.folder.is_dir()
    except RankfleetError as error:
        pytest.skip(f"NOT TESTED: no memory cgroup can be made here: {error}")
    assert not group.folder.exists()


def test_version_1_makes_groups_below_the_own_one() -> None:
    place = find_place("4:memory:/user/me\n0::/\n", "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n")
    assert (place.folder, place.unified) == (Path("/sys/fs/cgroup/memory/user/me"), False)


@pytest.mark.parametrize(("own", "expected"), [("/user/me", "user"), ("/", "")])
def test_version_2_makes_groups_beside_the_own_one(tmp_path: Path, own: str, expected: str) -> None:
    folder = tmp_path / own.lstrip("/")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.controllers").write_text("cpu memory\n")
    place = find_place(f"0::{own}\n", f"cgroup2 {tmp_path} cgroup2 rw 0 0\n")
    assert (place.folder, place.unified) == (tmp_path / expected, True)


def test_version_2_figures(tmp_path: Path) -> None:
    files = {
        "memory.peak": "1000\n",
        "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n",
        "memory.stat": "anon 500\nworkingset_refault_anon 3\nworkingset_refault_file 4\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    usage = MemoryCgroup(tmp_path, True, 2000).usage()
    assert (usage.peak_bytes, usage.limit_hits, usage.refaulted_pages, usage.oom_kills) == (1000, 7, 7, 2)


def test_no_memory_controller_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(RankfleetError, match="cgroup_enable=memory"):
        find_place("0::/\n", "cgroup2 /nowhere cgroup2 rw 0 0\n")
