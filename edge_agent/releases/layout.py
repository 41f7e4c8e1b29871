"""What lies where on a board, below a root folder that is `/` on a real one.

::

    opt/rankfleet/releases/<version>/       a release: a virtual environment, and release.json, which is written last
    opt/rankfleet/current -> releases/...   the release that runs; previous -> the last good one before it
    opt/rankfleet/upgrade.json              there is an upgrade that nobody saw the end of
    usr/local/bin/rankfleet -> /opt/rankfleet/current/bin/rankfleet
    etc/rankfleet/agent.toml                the agent's configuration
    var/lib/rankfleet/{identity,state,data} the agent's keys, what it learnt, its texts
    etc/systemd/system/rankfleet-*          units
    usr/lib/rankfleet-agent/                in place of releases: the agent of the Debian package, which apt changes
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

USER = "rankfleet"
"""User and group that the agent runs as."""
BY_APT = (
    "managed by apt: on this board the agent is the Debian package rankfleet-agent; install a newer package, or "
    "'apt purge rankfleet-agent'"
)
"""Why releases are not changed where `Board.packaged`."""
RELEASE_JSON = "release.json"
_STATE_DIR = re.compile(r'^state_dir\s*=\s*("(?:[^"\\]|\\.)*")', re.MULTILINE)


@dataclass(frozen=True)
class Board:
    """The paths of one board. Folders need not exist."""

    root: Path = Path("/")

    @property
    def real(self) -> bool:
        """Whether this is the running system, rather than a tree somewhere in it."""
        return self.root == Path("/")

    @property
    def home(self) -> Path:
        """Where releases are kept."""
        return self.root / "opt" / "rankfleet"

    @property
    def releases(self) -> Path:
        """One folder a release."""
        return self.home / "releases"

    @property
    def current(self) -> Path:
        """The link to the release that runs."""
        return self.home / "current"

    @property
    def previous(self) -> Path:
        """The link to the last good release before the current one."""
        return self.home / "previous"

    @property
    def journal(self) -> Path:
        """The record of an upgrade under way."""
        return self.home / "upgrade.json"

    @property
    def command(self) -> Path:
        """The link by which people call `rankfleet`."""
        return self.root / "usr" / "local" / "bin" / "rankfleet"

    @property
    def settings(self) -> Path:
        """Folder of the configuration."""
        return self.root / "etc" / "rankfleet"

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.settings / "agent.toml"

    @property
    def units(self) -> Path:
        """Folder of systemd's units."""
        return self.root / "etc" / "systemd" / "system"

    @property
    def var(self) -> Path:
        """Folder of all that the agent writes or reads."""
        return self.root / "var" / "lib" / "rankfleet"

    @property
    def identity(self) -> Path:
        """Key and certificates."""
        return self.var / "identity"

    @property
    def state(self) -> Path:
        """Where the agent keeps its state unless its configuration says otherwise."""
        return self.var / "state"

    @property
    def data(self) -> Path:
        """Where the texts are unless the configuration says otherwise."""
        return self.var / "data"

    @property
    def package(self) -> Path:
        """Where the Debian package has the agent and its libraries."""
        return self.root / "usr" / "lib" / "rankfleet-agent"

    @property
    def packaged(self) -> bool:
        """Whether the agent is that of the Debian package. A release, which comes first in every path, is none."""
        return self.package.is_dir() and not self.current.is_symlink()

    def state_dir(self) -> Path:
        """Where the agent keeps its state, by its configuration where that says so with an ordinary string."""
        try:
            text = self.config.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return self.state
        # Python 3.10 has no reader of TOML, and before an installation there is no other.
        found = _STATE_DIR.search(text.partition("\n[")[0])
        return self.settings / json.loads(found[1]) if found else self.state
