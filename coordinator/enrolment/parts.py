"""What the enrolment service works with, and how it comes to its desk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from coordinator.enrolment.desk import Desk
from coordinator.enrolment.shelf import Shelf

T = TypeVar("T")

ReleaseFor = Callable[[str, dict[str, str]], Any]
"""What a device is to install now, as JSON will have it, or None. Given its name and what it says of itself."""
TakeReport = Callable[[str, bytes], object]
"""Hears a device's report: its name, and JSON."""


def no_release(_device: str, _facts: dict[str, str]) -> None:
    """For a gateway without rollouts."""


def no_report(_device: str, _report: bytes) -> None:
    """For a gateway without rollouts."""


@dataclass(frozen=True)
class Parts:
    """What the service works with. `desk` opens one for the thread that asks; `is_admin` knows an administrator's
    token; `now` is the date; `line` is the line to paste for a token and perhaps a name."""

    desk: Callable[[], AbstractContextManager[Desk]]
    shelf: Shelf
    installer: bytes
    line: Callable[[str, str | None], str]
    is_admin: Callable[[str], bool]
    now: Callable[[], datetime]
    release_for: ReleaseFor = no_release
    take_report: TakeReport = no_report


def with_desk(parts: Parts, act: Callable[[Desk, datetime], T]) -> Awaitable[T]:
    """Does `act` in a thread of its own, so that waiting for the disk holds up nobody else."""

    def work() -> T:
        with parts.desk() as desk:
            return act(desk, parts.now())

    return run_in_threadpool(work)
