"""Records of devices as their agents would have left them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_agent.round_log import RoundEntry, RoundLog
from tests.edge_agent.recorded import DATE, DEVICE_ENTRY, phase_entry
from tests.wire.examples import REPORT

RUN = "00" * 16
PHASES = ("wait", "receive", "load", "train", "publish")


def round_entry(number: int, **report: object) -> RoundEntry:
    return RoundEntry(DATE, RUN, number, msgspec.structs.replace(REPORT, phases=(), **report))


def record(folder: Path, train_s: Sequence[float], *, device: str = "pi-1", **changes: object) -> Path:
    """A record in which round `n` trained for `train_s[n - 1]` seconds, at 6 W; other phases take a second each."""
    folder.mkdir(parents=True, exist_ok=True)
    log = RoundLog(folder, 100, msgspec.structs.replace(DEVICE_ENTRY, device=device))
    log.append(phase_entry(round=0, phase="join", run=None, wall_s=2.0, trainer_cpu_s=None, energy_j=12.0))
    for number, wall_s in enumerate(train_s, 1):
        for phase in PHASES:
            took_s = wall_s if phase == "train" else 1.0
            known = {"energy_j": 6 * took_s, **changes}
            log.append(phase_entry(round=number, phase=phase, wall_s=took_s, **known))
        right = {"holdout_correct": 5 + number, "holdout_total": 20, "steps": 3}
        log.append(round_entry(number, **right))
    return folder


def demo(folder: Path, train_s: Sequence[float], devices: Sequence[str] = ("a", "b")) -> Path:
    """The folder of a demo, without its coordinator."""
    for device in devices:
        record(folder / "agents" / device / "state", train_s, device=device)
    return folder
