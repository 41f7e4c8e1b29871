"""What a kernel offers and says, from the files that it has it in."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.doctor import kernel
from tests.edge_agent.doctor.test_board import put

SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def test_memory_groups_of_either_version(tmp_path: Path) -> None:
    put(tmp_path / "two", "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n")
    put(tmp_path / "one", "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert [kernel.memory_groups(tmp_path / name).found for name in ("one", "two")] == ["version 1", "version 2"]


@pytest.mark.parametrize("path", kernel.CMDLINES)
def test_where_they_are_off_it_says_which_line_to_change(tmp_path: Path, path: str) -> None:
    """As on Raspberry Pi OS, whose firmware turns them off."""
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    put(tmp_path, path, "console=serial0,115200 root=PARTUUID=1-02\n")
    found = kernel.memory_groups(tmp_path)
    assert found.level == "warning"
    assert f"/{path}" in found.remedy and "cgroup_enable=memory cgroup_memory=1" in found.remedy


def test_pressure_is_there_or_to_be_turned_on(tmp_path: Path) -> None:
    assert "psi=1" in kernel.pressure(tmp_path).remedy
    put(tmp_path, "proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00\n")
    assert kernel.pressure(tmp_path).level == "ok"


@pytest.mark.parametrize(
    ("devices", "level", "found"),
    [
        ((), "ok", "none"),
        (("/dev/zram0",), "ok", "in compressed memory (zram)"),
        (("/dev/zram0", "/var/swap"), "warning", "on /var/swap"),
    ],
)
def test_swap(tmp_path: Path, devices: tuple[str, ...], level: str, found: str) -> None:
    put(tmp_path, "proc/swaps", SWAPS + "".join(f"{device}\tpartition\t99\t0\t100\n" for device in devices))
    assert (kernel.swap(tmp_path).level, kernel.swap(tmp_path).found) == (level, found)


@pytest.mark.parametrize(
    ("bits", "level", "found"),
    [
        ("0", "ok", "enough, never throttled"),
        ("50005", "warning", "now: the voltage is too low, it is throttled"),
        ("50000", "warning", "since the start: the voltage is too low, it is throttled"),
        ("garbage", "ok", "this board does not tell"),
    ],
)
def test_the_firmwares_word_on_power(tmp_path: Path, bits: str, level: str, found: str) -> None:
    put(tmp_path, kernel.THROTTLED, f"{bits}\n")
    assert (kernel.power(tmp_path).level, kernel.power(tmp_path).found) == (level, found)


def test_the_hottest_sensor_counts(tmp_path: Path) -> None:
    assert kernel.heat(tmp_path).found == "this board does not tell"
    for number, text in enumerate(("45123", "-1000", "nothing")):
        put(tmp_path, f"sys/class/thermal/thermal_zone{number}/temp", text)
    assert (kernel.heat(tmp_path).level, kernel.heat(tmp_path).found) == ("ok", "45 degrees Celsius")
    put(tmp_path, "sys/class/thermal/thermal_zone9/temp", "81000")
    assert kernel.heat(tmp_path).level == "warning"
