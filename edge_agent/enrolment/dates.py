"""The date, on a board without a clock battery: the newest that was ever known is kept, and time is never before it.

Such a board starts with an old date, until a time server answers. Whether a certificate has ended is judged by
whichever is later, its clock or the newest date known.
"""

from __future__ import annotations

import email.utils
import time
from datetime import datetime, timezone
from pathlib import Path

from edge_agent.enrolment import files

NEWEST_DATE = "newest-date"
LATEST_S = 4102444800.0
"""The year 2100: what is later is damaged, and would end every certificate."""


def newest_s(identity: Path) -> float | None:
    """The newest date known, in seconds since 1970, UTC; None if there is none, or it is damaged."""
    try:
        date_s = float((identity / NEWEST_DATE).read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return date_s if 0 < date_s < LATEST_S else None


def note(identity: Path, date_s: float) -> None:
    """Keeps a date that is known to be right, if it is the newest.

    Raises:
        StoreError: it cannot be written.
    """
    known_s = newest_s(identity)
    if date_s < LATEST_S and (known_s is None or date_s > known_s):
        files.write(identity / NEWEST_DATE, f"{date_s:.0f} {show(date_s)}\n".encode())


def now_s(identity: Path) -> float:
    """The date by the clock, or the newest known if that is later."""
    return max(clock_s(), newest_s(identity) or 0.0)


def clock_s() -> float:
    """The date by the clock alone."""
    return time.time()


def header_s(text: str | None) -> float | None:
    """The date of an HTTP header; None if it is none."""
    try:
        return None if text is None else email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def show(date_s: float) -> str:
    """For a person."""
    return datetime.fromtimestamp(date_s, tz=timezone.utc).strftime("%d %B %Y, %H:%M UTC")
