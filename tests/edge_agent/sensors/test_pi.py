from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import pi
from tests.edge_agent.sensors.trees import write

# https://gist.github.com/cleverca22/95d2cb2f4e1f59be2bd94f0e1d446cc9, of a Pi 5; indented as
# https://github.com/jfikar/RPi5-power shows it.
PMIC = """\
 3V7_WL_SW_A current(0)=0.04782057A
   3V3_SYS_A current(1)=0.04684464A
   1V8_SYS_A current(2)=0.17078780A
  DDR_VDD2_A current(3)=0.02049453A
  DDR_VDDQ_A current(4)=0.00000000A
   1V1_SYS_A current(5)=0.18933040A
    0V8_SW_A current(6)=0.32888840A
  VDD_CORE_A current(7)=0.92871990A
   3V3_DAC_A current(17)=0.00054945A
   3V3_ADC_A current(18)=0.00018315A
   0V8_AON_A current(16)=0.00586080A
      HDMI_A current(22)=0.01636140A
 3V7_WL_SW_V volt(8)=3.70534400V
   3V3_SYS_V volt(9)=3.31467300V
   1V8_SYS_V volt(10)=1.80903400V
  DDR_VDD2_V volt(11)=1.10292900V
  DDR_VDDQ_V volt(12)=0.61575030V
   1V1_SYS_V volt(13)=1.10512700V
    0V8_SW_V volt(14)=0.80292960V
  VDD_CORE_V volt(15)=0.72097620V
   3V3_DAC_V volt(20)=3.30952000V
   3V3_ADC_V volt(21)=3.30952000V
   0V8_AON_V volt(19)=0.79765500V
      HDMI_V volt(23)=5.16034000V
     EXT5V_V volt(24)=5.17105900V
      BATT_V volt(25)=0.00598290V
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # https://github.com/raspberrypi/firmware/issues/615, of a Pi 3.
        ("throttled=0x50000\n", ()),
        ("throttled=0x50005\n", ("undervoltage", "throttled")),
        # https://github.com/imrahil/OctoPrint-NavbarTemp/issues/75.
        ("throttled=0x20002", ("clock capped",)),
        ("throttled=0x0", ()),
        ("50008\n", ("soft temperature limit",)),
    ],
)
def test_throttling_is_told_of_this_moment_only(text: str, words: tuple[str, ...]) -> None:
    bits = pi.parse_throttled(text)
    assert bits is not None
    assert pi.told(bits) == words


def test_measurements_as_a_pi_3_prints_them() -> None:
    # https://github.com/duckietown/Software/issues/358 and https://github.com/tldr-pages/tldr/pull/6309.
    assert pi.parse_temperature_c("temp=62.3'C\n") == 62.3
    assert pi.parse_clock_hz("frequency(45)=1400000000\n") == 1_400_000_000
    assert pi.parse_volts("volt=1.2000V\n") == 1.2


def test_a_clock_that_is_switched_off_is_none() -> None:
    # https://github.com/raspberrypi/linux/issues/7348.
    assert pi.parse_clock_hz("frequency(0)=0") is None


@pytest.mark.parametrize("text", ["", "bad argument", "VCHI initialization failed", "temp=.'C", "volt=--V"])
def test_what_is_no_measurement_is_none(text: str) -> None:
    parsers = (pi.parse_temperature_c, pi.parse_clock_hz, pi.parse_volts)
    assert [parse(text) for parse in parsers] == [None, None, None]


def test_a_pi_5_tells_its_supplies() -> None:
    rails = pi.parse_pmic(PMIC)
    assert len(rails) == 14
    assert rails["VDD_CORE"] == (0.72097620, 0.92871990)
    assert rails["EXT5V"] == (5.171059, None)
    assert rails["DDR_VDDQ"] == (0.6157503, 0.0)
    assert pi.pmic_power_w(rails) == pytest.approx(1.89845, abs=1e-5)


def test_an_older_board_has_no_power() -> None:
    assert pi.pmic_power_w(pi.parse_pmic('error=1 error_msg="Command not registered"')) is None


@given(st.text())
def test_garbage_raises_nothing(text: str) -> None:
    for parse in (pi.parse_throttled, pi.parse_temperature_c, pi.parse_clock_hz, pi.parse_volts):
        parse(text)
    pi.pmic_power_w(pi.parse_pmic(text))


def test_the_kernel_s_alarm_is_found_among_other_monitors(tmp_path: Path) -> None:
    # The kernel's hwmon/raspberrypi-hwmon.rst.
    monitors = {"hwmon0/name": "cpu_thermal\n", "hwmon2/name": "rpi_volt\n", "hwmon2/in0_lcrit_alarm": "1\n"}
    write(tmp_path / "sys/class/hwmon", monitors)
    assert pi.is_undervolted(tmp_path) is True
    write(tmp_path / "sys/class/hwmon", {"hwmon2/in0_lcrit_alarm": "0\n"})
    assert pi.is_undervolted(tmp_path) is False


def test_another_board_has_no_alarm(tmp_path: Path) -> None:
    assert pi.is_undervolted(tmp_path) is None
    assert pi.throttled(tmp_path) is None
