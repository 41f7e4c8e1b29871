from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import groups
from tests.edge_agent.sensors.trees import write

# The kernel's admin-guide/cgroup-v1/memory.rst and cgroup-v2.rst name the files; lines as Raspberry Pi OS 12 (version
# 2) and an Ubuntu 18.04 of a Jetson Nano (version 1) have them in /proc/self/cgroup.
UNIFIED = "0::/system.slice/rankfleet-agent.service\n"
FIRST = "9:name=systemd:/user.slice\n4:memory:/system.slice/agent\n1:cpu,cpuacct:/\n0::/user.slice\n"


def test_version_2_tells_the_present_and_the_peak(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/system.slice/rankfleet-agent.service"
    write(
        tmp_path, {"proc/self/cgroup": UNIFIED, f"{group}/memory.current": "8192\n", f"{group}/memory.peak": "9000\n"}
    )
    assert groups.usage(tmp_path) == (8192, 9000)


def test_a_kernel_before_5_19_tells_no_peak(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/system.slice/rankfleet-agent.service"
    write(tmp_path, {"proc/self/cgroup": UNIFIED, f"{group}/memory.current": "8192\n"})
    assert groups.usage(tmp_path) == (8192, None)


def test_version_1_tells_the_present_and_the_peak(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/memory/system.slice/agent"
    files = {f"{group}/memory.usage_in_bytes": "4096\n", f"{group}/memory.max_usage_in_bytes": "5000\n"}
    write(tmp_path, {"proc/self/cgroup": FIRST, **files, "sys/fs/cgroup/memory/memory.usage_in_bytes": "99\n"})
    assert groups.usage(tmp_path) == (4096, 5000)


def test_a_container_sees_its_own_group_only(tmp_path: Path) -> None:
    write(tmp_path, {"proc/self/cgroup": "0::/docker/abc\n", "sys/fs/cgroup/memory.current": "7\n"})
    assert groups.usage(tmp_path) == (7, None)


def test_no_groups_tell_nothing(tmp_path: Path) -> None:
    assert groups.usage(tmp_path) == (None, None)


@given(text=st.text(st.characters(codec="utf-8")))
def test_garbage_raises_nothing(tmp_path_factory, text: str) -> None:  # type: ignore[no-untyped-def]
    groups.usage(write(tmp_path_factory.mktemp("garbage"), {"proc/self/cgroup": text}))
