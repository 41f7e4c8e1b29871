"""What a check found."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "failure"]
MARKS: dict[Level, str] = {"ok": "ok     ", "warning": "WARNING", "failure": "FAILURE"}


class Finding(msgspec.Struct, frozen=True):
    """One check's result. `remedy` says what to do, empty where nothing is to be done.

    A `failure` keeps the agent from its work; with a `warning` it works, slower or less safely than it could.
    """

    check: str
    level: Level
    found: str
    remedy: str = ""

    def lines(self) -> str:
        """For a person."""
        told = f"{MARKS[self.level]} {self.check}: {self.found}"
        return f"{told}\n        {self.remedy}" if self.remedy else told
