"""What a Jetson tells: its power monitors (INA3221), power mode, clocks, and events of too much current.

Sources: the kernel's hwmon/ina3221.rst; the NVIDIA Jetson Linux Developer Guide, "Jetson Orin Nano Series, Jetson Orin
NX Series and Jetson AGX Orin Series", part "Electrical Management".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from .text import number_in, scaled, whole

NVPMODEL = "nvpmodel"
WHOLE_MODULE = ("VDD_IN", "POM_5V_IN")
"""Rails that all others hang on: of the Orin Nano, Orin NX, Xavier NX and TX2; of the Nano. Other modules have none."""
WITHIN = {"VDDQ_VDD2_1V8AO": "VIN_SYS_5V0"}
"""Of the AGX Orin: the rail that hangs on another one that is measured."""
CHANNELS = (1, 2, 3)
_MODE = re.compile(r"NV Power Mode:[ \t]*(\S.*)")


class Rail(NamedTuple):
    """One supply of the module."""

    name: str
    power_w: float


class PowerMode(NamedTuple):
    """Limits on clocks and cores that the board was given."""

    name: str
    number: int | None


def rails(root: Path) -> Sequence[Rail]:
    """All supplies that are measured: through hwmon, or through IIO as on the kernel 4.9 of a Nano."""
    return [*_hwmon(root), *_iio(root)]


def power_w(found: Sequence[Rail]) -> float | None:
    """Of the whole module: its input rail, else the sum of those measured."""
    names = {rail.name for rail in found}
    inputs = [rail.power_w for rail in found if rail.name in WHOLE_MODULE]
    apart = [rail.power_w for rail in found if WITHIN.get(rail.name) not in names]
    return inputs[0] if inputs else sum(apart) if apart else None


def parse_power_mode(text: str) -> PowerMode | None:
    """Of `nvpmodel -q`: the mode's name, and in a line of its own its number."""
    lines = [line.strip() for line in text.splitlines()]
    for place, line in enumerate(lines):
        found = _MODE.fullmatch(line)
        if found:
            number = whole(lines[place + 1]) if place + 1 < len(lines) else None
            return PowerMode(found[1].strip(), number)
    return None


def gpu_clock_hz(root: Path) -> int | None:
    """Of the graphics processor, which the torch engine computes on."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        if folder.name.endswith((".gpu", ".gv11b", ".gp10b", ".ga10b", ".gpu.0")):
            return number_in(folder / "cur_freq")
    return None


def overcurrent_events(root: Path) -> int | None:
    """How often the module slowed down since the start because it took too much current."""
    counts = [
        number_in(file) for folder in _named(root, "soctherm_oc") for file in sorted(folder.glob("oc*_event_cnt"))
    ]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _hwmon(root: Path) -> Iterator[Rail]:
    for folder in _named(root, "ina3221"):
        for channel in CHANNELS:
            name = read(folder / f"in{channel}_label").strip()
            volts = scaled(number_in(folder / f"in{channel}_input"), 1e-3)
            amperes = scaled(number_in(folder / f"curr{channel}_input"), 1e-3)
            if name and name != "NC" and volts is not None and amperes is not None:
                yield Rail(name, volts * amperes)


def _iio(root: Path) -> Iterator[Rail]:
    for folder in sorted((root / "sys/bus/iio/devices").glob("iio:device*")):
        for file in sorted(folder.glob("rail_name_*")):
            name, watts = read(file).strip(), scaled(_milliwatts(folder, file.name), 1e-3)
            if name and name != "NC" and watts is not None:
                yield Rail(name, watts)


def _milliwatts(folder: Path, file: str) -> int | None:
    return number_in(folder / f"in_power{file.removeprefix('rail_name_')}_input")


def _named(root: Path, name: str) -> list[Path]:
    folders = sorted((root / "sys/class/hwmon").glob("hwmon*"))
    return [folder for folder in folders if read(folder / "name").strip() == name]
