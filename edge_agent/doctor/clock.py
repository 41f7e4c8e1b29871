"""Whether the date can be right: a board without a clock battery starts with that of its last shutdown, or in 1970."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.doctor.finding import Finding

SYNCHRONISED = "run/systemd/timesync/synchronized"
SLACK_S = 60.0


def clock(root: Path, written: Iterable[Path], now_s: float | None = None) -> Finding:
    """The date against the newest of the files `written`, which cannot be from the future. Those of the agent's own
    folder are written all the time, so the date is never far behind the last one that was right."""
    now_s = time.time() if now_s is None else now_s
    latest_s = max((path.stat().st_mtime for path in written if path.exists()), default=0.0)
    if now_s + SLACK_S < latest_s:
        remedy = "Certificates and logs need the date: let the board reach a time server (timedatectl set-ntp true)."
        return Finding("clock", "failure", f"{_date(now_s)}, but files were written on {_date(latest_s)}", remedy)
    if not (root / SYNCHRONISED).exists():
        remedy = "Let it reach a time server: timedatectl set-ntp true."
        return Finding("clock", "warning", f"{_date(now_s)}, and nobody has confirmed it since the start", remedy)
    return Finding("clock", "ok", f"{_date(now_s)}, confirmed by a time server")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%d %B %Y, %H:%M UTC")
