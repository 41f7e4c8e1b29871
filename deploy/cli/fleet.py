"""A fleet's folder on the command line: FOLDER, which stands anywhere among the words of a command."""

from __future__ import annotations

import argparse
import os
import pwd
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.enrolment.opening import Fleet

TEMPLATE = Path(__file__).parent.parent / "board" / "install.sh"


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds FOLDER, which is required: an optional one would have to stand before all options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the fleet's folder, made by `init`")


def read(path: Path) -> Fleet:
    """The fleet in `path`.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    from coordinator.enrolment import founding  # noqa: PLC0415 (a help text needs none of it)
    from coordinator.enrolment.folder import FleetFolder  # noqa: PLC0415
    from coordinator.enrolment.opening import Fleet  # noqa: PLC0415

    folder = FleetFolder(path.resolve())
    return Fleet(folder, *founding.opened(folder), TEMPLATE.read_text(encoding="utf-8"), now)


def opened(path: Path) -> Fleet:
    """As `read`, to change it: from here on root is the folder's owner."""
    found = read(path)
    become(found.folder.owner)
    return found


def become(user: str) -> None:
    """What root starts runs as the folder's owner, for good."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == 0 and entry.pw_uid != 0:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)


def now() -> datetime:
    """The date."""
    return datetime.now(timezone.utc)
