"""A fleet's folder on the command line: FOLDER, which stands anywhere among the words of a command."""

from __future__ import annotations

import argparse
import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.enrolment.authority import Authority
    from coordinator.enrolment.fleet import FleetSettings
    from coordinator.enrolment.folder import FleetFolder


def add_folder(parser: argparse.ArgumentParser) -> None:
    """Adds FOLDER, which is required: an optional one would have to stand before all options."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the fleet's folder, made by `init`")


def opened(path: Path) -> tuple[FleetFolder, FleetSettings, Authority]:
    """The fleet in `path`; from here on root is the folder's owner.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    from coordinator.enrolment import founding  # noqa: PLC0415 (a help text needs none of it)
    from coordinator.enrolment.folder import FleetFolder  # noqa: PLC0415

    folder = FleetFolder(path.resolve())
    settings, authority = founding.opened(folder)
    become(folder.owner)
    return folder, settings, authority


def become(user: str) -> None:
    """What root starts runs as the folder's owner, for good."""
    entry = pwd.getpwnam(user)
    if os.geteuid() == 0 and entry.pw_uid != 0:
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
