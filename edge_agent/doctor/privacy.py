"""Who on the board can read the device's texts."""

from __future__ import annotations

import stat
from pathlib import Path

from edge_agent.config import AgentConfig
from edge_agent.doctor.finding import Finding

CHECK = "privacy"


def privacy(settings: AgentConfig) -> Finding:
    """By the modes of the data and the folders above it. The group of `state_dir` is the agent's own."""
    try:
        found = settings.data.stat()
        own_group = settings.state_dir.stat().st_gid if settings.state_dir.exists() else found.st_gid
    except OSError as error:
        return Finding(CHECK, "ok", f"nothing to be read: {settings.data} ({error.strerror})")
    who = []
    if found.st_mode & stat.S_IROTH and _open_to_others(settings.data):
        who.append("everybody")
    elif found.st_mode & stat.S_IRGRP and found.st_gid not in (own_group, 0):
        who.append(f"the group {found.st_gid}")
    mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
    if who:
        remedy = f"chmod 0640 {settings.data}, and give it the agent's group: chgrp rankfleet {settings.data}"
        return Finding(CHECK, "warning", f"{who[0]} on this board can read {settings.data} ({mode})", remedy)
    return Finding(CHECK, "ok", f"only the agent's user and group can read {settings.data} ({mode})")


def _open_to_others(path: Path) -> bool:
    """Whether every folder above lets others through."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)
