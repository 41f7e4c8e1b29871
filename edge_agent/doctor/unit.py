"""What systemd says of the agent's unit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edge_agent.doctor.finding import Finding

CHECK = "unit"
NAME = "rankfleet-agent.service"
ANSWER_S = 20.0
_ASKED = ("LoadState", "ActiveState", "Result", "StatusText", "NRestarts", "MemoryHigh", "MemoryMax")
_RENDER = "rankfleet agent unit CONFIG --install && systemctl daemon-reload"


def unit(root: Path, budget_bytes: int | None) -> Finding:
    """Whether the unit is there and runs, and leaves the agent its budget."""
    program = shutil.which("systemctl")
    if program is None or not (root / "run/systemd/system").is_dir():
        return Finding(CHECK, "ok", "no systemd runs here")
    command = [program, "show", NAME, *(f"--property={name}" for name in _ASKED)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(CHECK, "warning", f"systemd does not tell: {error}", f"See `systemctl status {NAME}`.")
    return judge(dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line), budget_bytes)


def judge(told: dict[str, str], budget_bytes: int | None) -> Finding:
    """The finding for properties of the unit, as `systemctl show` prints them."""
    if told.get("LoadState") != "loaded":
        return Finding(CHECK, "warning", f"there is no {NAME}", f"So that it starts by itself: {_RENDER}")
    active, limit = told.get("ActiveState", "unknown"), told.get("MemoryMax", "infinity")
    limits = f"MemoryHigh {told.get('MemoryHigh', 'infinity')}, MemoryMax {limit}"
    if active not in ("active", "activating", "reloading"):
        found = f"{active} ({told.get('Result', 'no result')})"
        return Finding(CHECK, "warning", found, f"See `journalctl -u {NAME}`, then: systemctl enable --now {NAME}")
    if limit == "infinity":
        return Finding(CHECK, "warning", f"{active}, no limit of memory", f"Render it again: {_RENDER}")
    if budget_bytes is not None and int(limit) < budget_bytes:
        found = f"{limits}: less than the budget of {budget_bytes} bytes"
        return Finding(CHECK, "warning", found, f"Render it again for the present budget: {_RENDER}")
    status = told.get("StatusText") or "no status"
    return Finding(CHECK, "ok", f"{active}, {status}; {limits}; restarted {told.get('NRestarts', '0')} times")
