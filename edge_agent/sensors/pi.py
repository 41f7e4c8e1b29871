"""What a Raspberry Pi's firmware tells: `vcgencmd`, the same through sysfs, and the power management of a Pi 5.

Sources: raspberrypi.com/documentation/computers/os.html#vcgencmd; the kernel's hwmon/raspberrypi-hwmon.rst.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read
from edge_agent.doctor.kernel import THROTTLED

from .text import decimal, number_in

VCGENCMD = "vcgencmd"
NOW = {0: "undervoltage", 1: "clock capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of `get_throttled`; the same, `PAST_BITS` higher, say that it was so since the start."""
PAST_BITS = 16
_BITS = re.compile(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})")
_TEMPERATURE = re.compile(r"temp=([0-9.-]{1,20})'C")
_CLOCK = re.compile(r"frequency\([0-9]{1,4}\)=([0-9]{1,12})")
_VOLTS = re.compile(r"volt=([0-9.]{1,20})V")
_READING = re.compile(r"\s*(\w+)_([AV])\s+(?:current|volt)\([0-9]{1,4}\)=([0-9.]{1,20})([AV])\s*")


class Rail(NamedTuple):
    """One supply: some have no current that is measured."""

    volts: float | None
    amperes: float | None


def parse_throttled(text: str) -> int | None:
    """The bits of `vcgencmd get_throttled` (`throttled=0x50005`), or of the file in sysfs (`50005`)."""
    found = _BITS.fullmatch(text.strip())
    return int(found[1], 16) if found else None


def told(bits: int) -> tuple[str, ...]:
    """What the bits say of this moment."""
    return tuple(words for bit, words in NOW.items() if bits >> bit & 1)


def parse_temperature_c(text: str) -> float | None:
    """Of `vcgencmd measure_temp`: `temp=46.6'C`."""
    found = _TEMPERATURE.fullmatch(text.strip())
    return decimal(found[1]) if found else None


def parse_clock_hz(text: str) -> int | None:
    """Of `vcgencmd measure_clock arm`: `frequency(48)=1500398464`. A clock that is switched off is told as 0."""
    found = _CLOCK.fullmatch(text.strip())
    return int(found[1]) or None if found else None


def parse_volts(text: str) -> float | None:
    """Of `vcgencmd measure_volts`: `volt=0.8749V`."""
    found = _VOLTS.fullmatch(text.strip())
    return decimal(found[1]) if found else None


def parse_pmic(text: str) -> Mapping[str, Rail]:
    """Supplies by name, of `vcgencmd pmic_read_adc`, which a Pi 5 has: a line for each current and each voltage."""
    volts: dict[str, float] = {}
    amperes: dict[str, float] = {}
    for line in text.splitlines():
        found = _READING.fullmatch(line)
        value = decimal(found[3]) if found and found[2] == found[4] else None
        if found and value is not None:
            (volts if found[2] == "V" else amperes)[found[1]] = value
    return {name: Rail(volts.get(name), amperes.get(name)) for name in dict.fromkeys([*amperes, *volts])}


def pmic_power_w(rails: Mapping[str, Rail]) -> float | None:
    """What all measured supplies give. What takes 5 V directly (USB, a hat, an SSD) is not among them."""
    known = [
        rail.volts * rail.amperes for rail in rails.values() if rail.volts is not None and rail.amperes is not None
    ]
    return sum(known) if known else None


def throttled(root: Path) -> int | None:
    """The firmware's bits, through sysfs."""
    return parse_throttled(read(root / THROTTLED))


def is_undervolted(root: Path) -> bool | None:
    """The alarm of the kernel's driver `rpi_volt`."""
    for folder in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read(folder / "name").strip() == "rpi_volt":
            alarm = number_in(folder / "in0_lcrit_alarm")
            return None if alarm is None else alarm == 1
    return None
