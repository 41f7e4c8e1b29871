"""Samples: pressure of a Linux 6.18; else of the kernel's documents (driver-api/thermal/sysfs-api.rst), or as said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import system
from tests.edge_agent.sensors.trees import write

MEMINFO = """\
MemTotal:        8258144 kB
MemFree:               1 kB
MemAvailable:    6912348 kB
SwapTotal:        102396 kB
SwapFree:         102396 kB
"""
PRESSURE = (
    "some avg10=0.06 avg60=0.18 avg300=0.22 total=358318931\nfull avg10=0.04 avg60=0.15 avg300=0.20 total=229692197\n"
)


def test_meminfo_is_in_bytes() -> None:
    assert system.parse_meminfo(MEMINFO) == (8258144 * 1024, 6912348 * 1024, 102396 * 1024, 102396 * 1024)


def test_pressure_is_in_seconds() -> None:
    assert system.parse_pressure(PRESSURE) == (pytest.approx(358.318931), pytest.approx(229.692197))


def test_an_old_kernel_tells_no_full_pressure_of_the_processor() -> None:
    assert system.parse_pressure("some avg10=1.89 avg60=1.67 avg300=2.05 total=11549411127\n").full_s is None


def test_temperatures_are_by_zone_and_in_degrees(tmp_path: Path) -> None:
    # The kernel's device tree of a Pi 5 (bcm2712.dtsi) names its zone so.
    zones = {"thermal_zone0/type": "cpu-thermal\n", "thermal_zone0/temp": "61450\n", "thermal_zone10/temp": "40000\n"}
    write(tmp_path / "sys/class/thermal", zones)
    assert system.temperatures_c(tmp_path) == {"cpu-thermal": 61.45, "thermal_zone10": 40.0}


def test_a_part_that_is_switched_off_has_no_temperature(tmp_path: Path) -> None:
    # tegrastats of an AGX Orin prints "CV0@-256C CPU@42.593C" (jetson_stats reads the same zones).
    zones = {"thermal_zone0/type": "CPU-therm\n", "thermal_zone0/temp": "42593\n"}
    zones |= {"thermal_zone2/type": "CV0-therm\n", "thermal_zone2/temp": "-256000\n"}
    write(tmp_path / "sys/class/thermal", zones)
    assert system.temperatures_c(tmp_path) == {"CPU-therm": 42.593}


def test_two_zones_of_one_type_both_count(tmp_path: Path) -> None:
    zones = {f"thermal_zone{number}/type": "acpitz\n" for number in (0, 1)}
    write(tmp_path / "sys/class/thermal", zones | {"thermal_zone0/temp": "20000", "thermal_zone1/temp": "30000"})
    assert system.temperatures_c(tmp_path) == {"acpitz": 20.0, "acpitz thermal_zone1": 30.0}


def test_only_what_slows_the_processor_down_counts(tmp_path: Path) -> None:
    devices = {"cooling_device0/type": "pwm-fan\n", "cooling_device0/cur_state": "3\n"}
    devices |= {"cooling_device1/type": "cpufreq-cpu0\n", "cooling_device1/cur_state": "2\n"}
    devices |= {"cooling_device2/type": "thermal-cpufreq-1\n", "cooling_device2/cur_state": "0\n"}
    write(tmp_path / "sys/class/thermal", devices)
    assert system.slowed(tmp_path) == ("cpufreq-cpu0",)


def test_clocks_and_governor_of_all_cores(tmp_path: Path) -> None:
    cores = {f"cpu{number}/cpufreq/scaling_cur_freq": "1500000\n" for number in (0, 1)}
    cores |= {"cpu0/cpufreq/scaling_governor": "ondemand\n", "cpu1/cpufreq/scaling_governor": "performance\n"}
    write(tmp_path / "sys/devices/system/cpu", cores | {"cpufreq/x": "", "cpuidle/y": "", "cpu2/online": "0"})
    assert system.clocks_hz(tmp_path) == (1_500_000_000, 1_500_000_000)
    assert system.governor(tmp_path) == "ondemand, performance"


def test_a_system_without_any_of_it_tells_nothing(tmp_path: Path) -> None:
    assert (system.temperatures_c(tmp_path), system.slowed(tmp_path), system.clocks_hz(tmp_path)) == ({}, (), ())
    assert system.governor(tmp_path) is None
    assert set(system.pressure(tmp_path).values()) == {(None, None)}
    assert system.meminfo(tmp_path) == (None, None, None, None)


@given(st.text())
def test_garbage_raises_nothing(text: str) -> None:
    system.parse_meminfo(text)
    system.parse_pressure(text)


@given(text=st.text(st.characters(codec="utf-8")))
def test_files_full_of_garbage_tell_nothing(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    root = tmp_path_factory.mktemp("garbage")
    names = ("sys/class/thermal/thermal_zone0/temp", "sys/class/thermal/cooling_device0/cur_state")
    write(root, dict.fromkeys((*names, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq"), f"x{text}"))
    assert (system.temperatures_c(root), system.slowed(root), system.clocks_hz(root)) == ({}, (), ())


def test_this_system_tells_its_memory() -> None:
    found = system.meminfo(Path("/"))
    assert found.total_bytes is not None and found.available_bytes is not None
    assert 0 < found.available_bytes <= found.total_bytes
