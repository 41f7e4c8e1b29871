"""Numbers out of the texts that kernels and firmware print. Nothing here raises: what is no number is None."""

from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from edge_agent.doctor.board import read

COMMAND_S = 2.0
"""How long a command may take; a firmware that hangs must not hold up the agent."""
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")

Run = Callable[[Sequence[str]], str]
"""Runs a command and gives what it prints; empty where there is none, or it fails."""


def whole(text: str) -> int | None:
    """A whole number, white space around it allowed."""
    stripped = text.strip()
    return int(stripped) if _WHOLE.fullmatch(stripped) else None


def decimal(text: str) -> float | None:
    """A decimal number, white space around it allowed."""
    stripped = text.strip()
    value = float(stripped) if _DECIMAL.fullmatch(stripped) else math.nan
    return value if math.isfinite(value) else None


def number_in(path: Path) -> int | None:
    """The whole number that is all of a file."""
    return whole(read(path))


def scaled(value: float | None, factor: float) -> float | None:
    """`value` in another unit."""
    return None if value is None else value * factor


def total(values: Sequence[int | None]) -> int | None:
    """The sum, where all of them are known and there is one at least."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None


def table(text: str, separator: str | None = ":") -> dict[str, str]:
    """Lines of a name, a separator and the rest; the first of several with one name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        parts = line.split(separator, 1)
        if len(parts) == 2:
            found.setdefault(parts[0].strip(), parts[1].strip())
    return found


def kilobytes(text: str) -> int | None:
    """Bytes out of `123 kB`, as files in `/proc` say it."""
    number, _, unit = text.partition(" ")
    value = whole(number)
    return None if value is None or unit.strip() != "kB" else value * 1024


def run_command(command: Sequence[str]) -> str:
    """Runs a command of the system; see `Run`."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=COMMAND_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout.decode("utf-8", "replace")
