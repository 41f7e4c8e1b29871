"""One look at the board's heat, clock and power, whatever kind of board it is; and what board it is."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_agent.doctor.board import read

from . import jetson, pi, powercap, system
from .text import Run, run_command, table

PMIC = ("vcgencmd", "pmic_read_adc")
CLOCK = ("vcgencmd", "measure_clock", "arm")
TEMPERATURE = ("vcgencmd", "measure_temp")
VOLTS = ("vcgencmd", "measure_volts")
OVERCURRENT = "overcurrent"
POWER_MODE = ("nvpmodel", "-q")


class Look(NamedTuple):
    """One moment. `time_s` is `time.monotonic()`, which all processes of a Linux system share."""

    time_s: float
    energy_j: float | None
    """Since the first look of this `Board`: where the board tells its power, that times time, as trapezoids."""
    temperature_c: float | None
    """Of the hottest zone."""
    clock_hz: int | None
    """Of the fastest core."""
    gpu_clock_hz: int | None
    slowed: tuple[str, ...]
    """What holds the board back at this moment."""


class Identity(NamedTuple):
    """What board and system it is, in words."""

    model: str | None
    system: str | None
    kernel: str
    machine: str
    governor: str | None
    power_mode: str | None
    core_volts: float | None
    """Of a Raspberry Pi's processor: it differs where the board is overclocked."""


class Board:
    """Looks at one board. `power_source` is what its power is read from, None where nothing tells it:

    `rapl` the processor's own counters, `ina3221` the monitors of a Jetson module, `pmic` the supplies of a Pi 5.
    """

    def __init__(self, root: Path = Path("/"), run: Run = run_command) -> None:
        self._root, self._run = root, run
        self._zones: Mapping[str, powercap.Zone] = powercap.zones(root)
        self._is_pi = pi.throttled(root) is not None or pi.is_undervolted(root) is not None
        self._asks_clock = self._is_pi and pi.parse_clock_hz(run(CLOCK)) is not None
        self.power_source = self._find_source()
        self._energy_j = None if self.power_source is None else 0.0
        self._last: tuple[float, float] | None = None
        self._overcurrents = jetson.overcurrent_events(root)

    def look(self) -> Look:
        """What the board tells now. Takes some milliseconds where a command of the firmware has to be asked."""
        now_s = time.monotonic()
        self._book_energy(now_s)
        return Look(
            time_s=now_s,
            energy_j=self._energy_j,
            temperature_c=self._temperature_c(),
            clock_hz=self._clock_hz(),
            gpu_clock_hz=jetson.gpu_clock_hz(self._root),
            slowed=self._slowed(),
        )

    def _find_source(self) -> str | None:
        if powercap.counted(self._zones):
            return "rapl"
        if jetson.power_w(jetson.rails(self._root)) is not None:
            return "ina3221"
        if self._is_pi and pi.pmic_power_w(pi.parse_pmic(self._run(PMIC))) is not None:
            return "pmic"
        return None

    def _book_energy(self, now_s: float) -> None:
        if self._energy_j is None:
            return
        if self.power_source == "rapl":
            before, self._zones = self._zones, powercap.zones(self._root)
            self._energy_j += powercap.spent_j(before, self._zones) or 0.0
            return
        power_w = self._power_w()
        if power_w is None:  # for once: the next look spans the gap
            return
        if self._last is not None:
            last_s, last_w = self._last
            self._energy_j += (now_s - last_s) * (last_w + power_w) / 2
        self._last = now_s, power_w

    def _power_w(self) -> float | None:
        if self.power_source == "ina3221":
            return jetson.power_w(jetson.rails(self._root))
        return pi.pmic_power_w(pi.parse_pmic(self._run(PMIC)))

    def _temperature_c(self) -> float | None:
        zones = system.temperatures_c(self._root)
        if not zones and self._is_pi:
            return pi.parse_temperature_c(self._run(TEMPERATURE))
        return max(zones.values(), default=None)

    def _clock_hz(self) -> int | None:
        if self._asks_clock:
            return pi.parse_clock_hz(self._run(CLOCK))
        return max(system.clocks_hz(self._root), default=None)

    def _slowed(self) -> tuple[str, ...]:
        bits = pi.throttled(self._root) if self._is_pi else None
        alarm = pi.is_undervolted(self._root) if self._is_pi else None
        words = [*system.slowed(self._root), *(pi.told(bits) if bits else ()), *([pi.NOW[0]] if alarm else [])]
        return tuple(dict.fromkeys([*words, *self._new_overcurrents()]))

    def _new_overcurrents(self) -> list[str]:
        """Whether a Jetson took too much current since the last look."""
        before, self._overcurrents = self._overcurrents, jetson.overcurrent_events(self._root)
        if before is None or self._overcurrents is None or self._overcurrents <= before:
            return []
        return [OVERCURRENT]


def identity(root: Path = Path("/"), run: Run = run_command) -> Identity:
    """What board and system this is."""
    release = table(read(root / "etc/os-release"), "=")
    mode = jetson.parse_power_mode(run(POWER_MODE)) if (root / "etc/nv_tegra_release").exists() else None
    return Identity(
        model=_first_told(root, ("proc/device-tree/model", "sys/class/dmi/id/product_name")),
        system=release.get("PRETTY_NAME", "").strip("\"'") or None,
        kernel=platform.release(),
        machine=platform.machine(),
        governor=system.governor(root),
        power_mode=None if mode is None else mode.name,
        core_volts=pi.parse_volts(run(VOLTS)) if pi.throttled(root) is not None else None,
    )


def _first_told(root: Path, names: Sequence[str]) -> str | None:
    told = (read(root / name).rstrip("\0\n").strip() for name in names)
    return next((words for words in told if words), None)
