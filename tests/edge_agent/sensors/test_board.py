"""Boards of which files and commands are as in the modules' own tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from edge_agent.sensors.board import CLOCK, PMIC, TEMPERATURE, VOLTS, Board, identity
from edge_agent.sensors.text import run_command
from tests.edge_agent.sensors.test_jetson import ORIN_NX
from tests.edge_agent.sensors.test_pi import PMIC as SUPPLIES
from tests.edge_agent.sensors.test_powercap import COUNTERS, tree
from tests.edge_agent.sensors.trees import write

PI = {
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61450\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
}


def nothing(command: Sequence[str]) -> str:
    return ""


def firmware(command: Sequence[str]) -> str:
    told = {PMIC: SUPPLIES, CLOCK: "frequency(0)=1500019456\n", TEMPERATURE: "temp=46.6'C\n", VOLTS: "volt=0.8749V\n"}
    return {tuple(asked): words for asked, words in told.items()}.get(tuple(command), "")


def test_a_pi_5_tells_power_heat_throttling_and_the_clock_that_it_really_has(tmp_path: Path) -> None:
    board = Board(write(tmp_path, PI), firmware)
    first = board.look()
    time.sleep(0.05)
    second = board.look()
    assert board.power_source == "pmic"
    assert (first.energy_j, first.temperature_c, first.clock_hz) == (0.0, 61.45, 1_500_019_456)
    assert first.slowed == ("undervoltage", "throttled")
    assert second.energy_j == pytest.approx(1.89845 * (second.time_s - first.time_s), rel=1e-3)


def test_a_pi_whose_kernel_has_no_thermal_zone_asks_the_firmware(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "0\n"})
    assert Board(tmp_path, firmware).look().temperature_c == 46.6
    assert identity(tmp_path, firmware).core_volts == 0.8749


def test_an_older_pi_tells_what_the_kernel_knows_and_no_power(tmp_path: Path) -> None:
    look = Board(write(tmp_path, PI), nothing).look()
    assert (look.energy_j, look.clock_hz) == (None, 2_400_000_000)


def test_a_jetson_tells_the_power_of_its_module(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon", ORIN_NX)
    board = Board(tmp_path, nothing)
    first = board.look()
    time.sleep(0.05)
    second = board.look()
    assert board.power_source == "ina3221"
    assert second.energy_j == pytest.approx(4.94 * 1.08 * (second.time_s - first.time_s), rel=1e-6)


def test_a_jetson_that_took_too_much_current_says_so_once(tmp_path: Path) -> None:
    files = {"hwmon3/name": "soctherm_oc\n", "hwmon3/oc1_event_cnt": "4\n", "hwmon3/oc3_event_cnt": "27390\n"}
    write(tmp_path / "sys/class/hwmon", files)
    write(tmp_path / "sys/class/devfreq", {"17000000.gpu/cur_freq": "306000000\n"})
    board = Board(tmp_path, nothing)
    assert (board.look().slowed, board.look().gpu_clock_hz) == ((), 306_000_000)
    write(tmp_path / "sys/class/hwmon", {"hwmon3/oc3_event_cnt": "27391\n"})
    assert [board.look().slowed for _ in range(2)] == [("overcurrent",), ()]


def test_a_power_that_is_not_told_once_is_bridged(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon", ORIN_NX)
    board = Board(tmp_path, nothing)
    first = board.look()
    write(tmp_path / "sys/class/hwmon", dict.fromkeys(ORIN_NX, ""))
    assert board.look().energy_j == 0.0
    write(tmp_path / "sys/class/hwmon", ORIN_NX)
    time.sleep(0.02)
    last = board.look()
    assert last.energy_j == pytest.approx(4.94 * 1.08 * (last.time_s - first.time_s), rel=1e-6)


def test_a_processor_with_counters_tells_what_they_counted(tmp_path: Path) -> None:
    board = Board(tree(tmp_path, COUNTERS), nothing)
    tree(tmp_path, {**COUNTERS, "intel-rapl:0": ("package-0", COUNTERS["intel-rapl:0"][1] + 3_000_000)})
    assert board.power_source == "rapl"
    assert board.look().energy_j == pytest.approx(3.0)


def test_a_board_that_tells_nothing_is_all_none(tmp_path: Path) -> None:
    board = Board(tmp_path, nothing)
    assert board.power_source is None
    assert board.look()[1:] == (None, None, None, None, ())


def test_this_board_can_be_looked_at() -> None:
    before_s = time.monotonic()
    look = Board().look()
    assert before_s <= look.time_s <= time.monotonic()


def test_a_board_says_what_it_is(tmp_path: Path) -> None:
    files = {"proc/device-tree/model": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0"}
    files |= {"etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nID=ubuntu\n', "etc/nv_tegra_release": "# R36\n"}
    files |= {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n"}
    found = identity(write(tmp_path, files), lambda command: "NV Power Mode: 25W\n1\n")
    assert found.model == "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    assert (found.system, found.governor, found.power_mode) == ("Ubuntu 22.04.5 LTS", "schedutil", "25W")


def test_a_command_that_is_missing_or_fails_says_nothing() -> None:
    assert run_command(["rankfleet-has-no-such-command"]) == ""
    assert run_command(["false"]) == ""
    assert run_command(["echo", "temp=46.6'C"]) == "temp=46.6'C\n"
