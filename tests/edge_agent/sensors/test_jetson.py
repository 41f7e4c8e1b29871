from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import jetson
from edge_agent.sensors.jetson import PowerMode
from tests.edge_agent.sensors.trees import write

# Files as https://github.com/alumet-dev/alumet/issues/212 lists them of an AGX Orin, with what tegrastats prints of one
# (VDD_GPU_SOC 2399mW, VDD_CPU_CV 400mW, VIN_SYS_5V0 4032mW, NC, VDDQ_VDD2_1V8AO) as currents.
AGX_ORIN = {
    "hwmon1/name": "ina3221\n",
    "hwmon1/in1_label": "VDD_GPU_SOC\n", "hwmon1/in1_input": "19992\n", "hwmon1/curr1_input": "120\n",
    "hwmon1/in2_label": "VDD_CPU_CV\n", "hwmon1/in2_input": "20000\n", "hwmon1/curr2_input": "20\n",
    "hwmon1/in3_label": "VIN_SYS_5V0\n", "hwmon1/in3_input": "5040\n", "hwmon1/curr3_input": "800\n",
    "hwmon1/in7_label": "sum of shunt voltages\n", "hwmon1/in7_input": "1\n",
    "hwmon2/name": "ina3221\n",
    "hwmon2/in1_label": "NC\n", "hwmon2/in1_input": "0\n", "hwmon2/curr1_input": "0\n",
    "hwmon2/in2_label": "VDDQ_VDD2_1V8AO\n", "hwmon2/in2_input": "5000\n", "hwmon2/curr2_input": "141\n",
    "hwmon2/in3_label": "NC\n",
}  # fmt: skip
# Labels of the Orin Nano and NX in the kernel's device tree (tegra234-p3767.dtsi), VDD_IN 5336 mW as tegrastats has it.
ORIN_NX = {
    "hwmon1/name": "ina3221\n",
    "hwmon1/in1_label": "VDD_IN\n", "hwmon1/in1_input": "4940\n", "hwmon1/curr1_input": "1080\n",
    "hwmon1/in2_label": "VDD_CPU_GPU_CV\n", "hwmon1/in2_input": "4940\n", "hwmon1/curr2_input": "530\n",
    "hwmon1/in3_label": "VDD_SOC\n", "hwmon1/in3_input": "4940\n", "hwmon1/curr3_input": "300\n",
}  # fmt: skip
# https://github.com/sustainable-computing-io/kepler/pull/2438: a Nano with kernel 4.9 has IIO in place of hwmon.
NANO = {
    "rail_name_0": "POM_5V_IN\n", "in_power0_input": "2875\n",
    "rail_name_1": "POM_5V_GPU\n", "in_power1_input": "40\n",
    "rail_name_2": "POM_5V_CPU\n", "in_power2_input": "605\n",
}  # fmt: skip


def test_a_module_without_an_input_rail_is_the_sum_of_its_supplies(tmp_path: Path) -> None:
    rails = jetson.rails(write(tmp_path / "sys/class/hwmon", AGX_ORIN).parents[2])
    assert [rail.name for rail in rails] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]
    assert jetson.power_w(rails) == pytest.approx(2.39904 + 0.4 + 4.032)


def test_an_input_rail_is_the_whole_module(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/hwmon", ORIN_NX)
    assert jetson.power_w(jetson.rails(tmp_path)) == pytest.approx(4.94 * 1.08)


def test_an_old_kernel_tells_power_through_another_interface(tmp_path: Path) -> None:
    write(tmp_path / "sys/bus/iio/devices/iio:device0", NANO)
    assert jetson.power_w(jetson.rails(tmp_path)) == pytest.approx(2.875)


def test_a_supply_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    # alumet issue 212: reading a channel that is switched off is an error; here its file is empty.
    write(tmp_path / "sys/class/hwmon", {**ORIN_NX, "hwmon1/curr1_input": ""})
    assert [rail.name for rail in jetson.rails(tmp_path)] == ["VDD_CPU_GPU_CV", "VDD_SOC"]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        # https://github.com/anduril/jetpack-nixos/pull/460, of a Thor.
        ("NV Power Mode: MAXN\n0\n", PowerMode("MAXN", 0)),
        # https://github.com/open-rdc/orne-box/issues/16, of a Xavier: the number is not always quoted with it.
        ("NV Fan Mode:quiet\nNV Power Mode: MAXN\n", PowerMode("MAXN", None)),
        ("NV Power Mode: MODE_15W_6CORE\n2\n", PowerMode("MODE_15W_6CORE", 2)),
        ("NVPM WARN: power mode is not set!\n", None),
        ("", None),
    ],
)
def test_the_power_mode(text: str, mode: PowerMode | None) -> None:
    assert jetson.parse_power_mode(text) == mode


def test_the_clock_of_the_graphics_processor(tmp_path: Path) -> None:
    # An Orin has it as 17000000.gpu, in hertz.
    write(tmp_path / "sys/class/devfreq", {"17000000.gpu/cur_freq": "306000000\n", "15340000.vic/cur_freq": "1\n"})
    assert jetson.gpu_clock_hz(tmp_path) == 306_000_000


def test_events_of_too_much_current_add_up(tmp_path: Path) -> None:
    # Files of the kernel's driver tegra234-oc-event, as the Developer Guide's "Electrical Management" reads them.
    counts = {"name": "soctherm_oc\n", "oc1_event_cnt": "0\n", "oc2_event_cnt": "15\n", "oc3_event_cnt": "37\n"}
    write(tmp_path / "sys/class/hwmon/hwmon3", counts)
    assert jetson.overcurrent_events(tmp_path) == 52


def test_another_board_tells_nothing(tmp_path: Path) -> None:
    assert jetson.power_w(jetson.rails(tmp_path)) is None
    assert jetson.gpu_clock_hz(tmp_path) is None
    assert jetson.overcurrent_events(tmp_path) is None


@given(st.text())
def test_garbage_raises_nothing(text: str) -> None:
    jetson.parse_power_mode(text)


@given(st.text(st.characters(codec="utf-8")))
def test_files_full_of_garbage_are_no_supplies(tmp_path_factory, text: str) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path_factory.mktemp("garbage")
    write(root / "sys/class/hwmon", {name: "ina3221" if name.endswith("name") else f"~{text}" for name in ORIN_NX})
    write(root / "sys/bus/iio/devices/iio:device0", dict.fromkeys(NANO, f"~{text}"))
    assert jetson.rails(root) == []
