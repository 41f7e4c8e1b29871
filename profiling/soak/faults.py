"""What goes wrong in a soak, how often, and how often it did. All of it is drawn from one seed."""

from __future__ import annotations

import enum
import random
from collections import Counter


@enum.unique
class Fault(enum.Enum):
    """Every kind; its value is its name in the report."""

    LOST = "messages lost"
    DUPLICATED = "messages duplicated"
    REORDERED = "messages overtaken by later ones"
    DELAYED = "messages delayed by seconds"
    REPLAYED = "old messages replayed"
    GARBLED = "frames garbled"
    CUT = "connections cut"
    COORDINATOR_CUT = "connections of the coordinator cut"
    REBOOTED = "devices rebooted"
    SILENT = "devices silent for some rounds"
    WIPED = "devices that lost their disk"
    SLOW = "trainings longer than the deadline"
    KILLED = "trainers killed"
    DECLINED = "rounds declined for want of memory"
    DAMAGED = "updates damaged"
    NOT_FINITE = "updates with values that are not finite"
    ABSURD = "updates of absurd values"
    TOO_LARGE = "updates of too many bytes"
    MISCOUNTED = "updates with other examples than reported"
    OTHER_ROUND = "updates made for another round"
    STOPPED = "coordinators killed between messages"
    CRASHED = "coordinators killed in the middle of a step"


UNUSABLE = (Fault.DAMAGED, Fault.NOT_FINITE, Fault.ABSURD, Fault.TOO_LARGE, Fault.MISCOUNTED, Fault.OTHER_ROUND)
"""What makes an update one that must not count."""

PER_MESSAGE = {Fault.LOST: 0.005, Fault.DUPLICATED: 0.005, Fault.REORDERED: 0.005, Fault.DELAYED: 0.003}
"""Probabilities."""
PER_TRAINING = {
    **dict.fromkeys(UNUSABLE, 0.004),
    Fault.SLOW: 0.005,
    Fault.KILLED: 0.005,
    Fault.DECLINED: 0.003,
}
"""Probabilities."""
PER_DEVICE_S = {
    Fault.CUT: 1 / 4_000,
    Fault.REBOOTED: 1 / 6_000,
    Fault.SILENT: 1 / 6_000,
    Fault.REPLAYED: 1 / 2_000,
    Fault.GARBLED: 1 / 10_000,
    Fault.WIPED: 1 / 60_000,
    Fault.COORDINATOR_CUT: 1 / 200_000,
}
"""How often in a second, for each device."""


class Faults:
    """Draws faults and counts them. `rate` multiplies all frequencies."""

    def __init__(self, seed: int, rate: float) -> None:
        self.random = random.Random(f"soak faults {seed}")
        self.counts: Counter[Fault] = Counter()
        self._rate = rate

    def note(self, fault: Fault) -> None:
        """It happened."""
        self.counts[fault] += 1

    def of(self, table: dict[Fault, float]) -> Fault | None:
        """At most one of the faults of `table`, by their probabilities; it is noted."""
        drawn = self.random.random()
        for fault, probability in table.items():
            drawn -= probability * self._rate
            if drawn < 0:
                self.note(fault)
                return fault
        return None

    def pause_s(self, fault: Fault, devices: int) -> float:
        """Seconds until the next `fault` of `PER_DEVICE_S` somewhere among `devices`."""
        return self.random.expovariate(PER_DEVICE_S[fault] * self._rate * devices)
