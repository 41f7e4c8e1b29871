"""Where the rounds of a fleet keep what they know."""

from __future__ import annotations

from pathlib import Path

from edge_agent.wire.settings import read_toml

from .folder import FleetFolder


def run_dir(folder: FleetFolder) -> Path:
    """The run folder that the operator's configuration names.

    Raises:
        ConfigError: the configuration cannot be read.
    """
    found = read_toml(folder.coordinator_config, "docs/configuration.md").get("run_dir", "run")
    return folder.root / str(found)
