"""Whether the date can be right: a board without a clock battery starts with that of its last shutdown, or in 1970."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.doctor.board import read
from edge_agent.doctor.finding import Finding

SYNCHRONISED = "run/systemd/timesync/synchronized"
SLACK_S = 60.0
NEWEST_DATE = "newest-date"
"""Beside the device's certificate: the latest date that a gateway told, ISO 8601."""


def present_s() -> float:
    """The date by this board's clock, in seconds of Unix time."""
    return time.time()


def bound_s(written: Iterable[Path], identity: Path | None) -> float:
    """What the date is at least, in seconds of Unix time: that of the newest of the files `written`, which cannot be
    from the future, and the one kept in the folder `identity`. Files of the agent's own folder are written all the
    time, so the date is never far behind the last one that was right."""
    dates = [path.stat().st_mtime for path in written if path.exists()]
    kept = read(identity / NEWEST_DATE).strip() if identity is not None else ""
    with suppress(ValueError):  # none, or damaged: there are the files
        dates.append(datetime.fromisoformat(kept.replace("Z", "+00:00")).timestamp())
    return max(dates, default=0.0)


def clock(root: Path, latest_s: float, now_s: float) -> Finding:
    """The date `now_s` against `latest_s`, which it cannot be before."""
    if now_s + SLACK_S < latest_s:
        remedy = "Certificates and logs need the date: let the board reach a time server (timedatectl set-ntp true)."
        return Finding("clock", "failure", f"{told_date(now_s)}, but it is {told_date(latest_s)} at least", remedy)
    if not (root / SYNCHRONISED).exists():
        remedy = "Let it reach a time server: timedatectl set-ntp true."
        return Finding("clock", "warning", f"{told_date(now_s)}, and nobody has confirmed it since the start", remedy)
    return Finding("clock", "ok", f"{told_date(now_s)}, confirmed by a time server")


def told_date(seconds: float) -> str:
    """For a person."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc).strftime("%d %B %Y, %H:%M UTC")
