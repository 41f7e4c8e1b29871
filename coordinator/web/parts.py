"""What the live page works with."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from coordinator.enrolment.desk import Desk
from coordinator.web.feed import Feed
from coordinator.web.sessions import Sessions

Order = Literal["pause", "resume", "start", "stop"]
WHO = "an administrator on the live page"


@dataclass(frozen=True)
class PageParts:
    """`is_admin` knows an administrator's token. `desk` opens one for the thread that asks. `order` carries out what
    is wanted of the rounds. `hosts` are the names that the page answers to; `is_secure` says whether it has TLS;
    `cookie` is the cookie's name, another for each port of a host."""

    fleet: str
    run_dir: Path
    feed: Feed
    sessions: Sessions
    is_admin: Callable[[str], bool]
    desk: Callable[[], AbstractContextManager[Desk]]
    order: Callable[[Order], None]
    now: Callable[[], datetime]
    hosts: tuple[str, ...]
    is_secure: bool
    cookie: str
