"""What of a configuration that is read again can be used while the agent runs."""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from edge_agent.config import AgentConfig
from edge_agent.wire.errors import ConfigError

AT_A_START = ("device", "fleet", "state_dir", "broker", "recorder", "metrics_file")
"""Settings that the connection, the locks, the database, the recorder and the file of metrics are made with."""


class Change(NamedTuple):
    """The settings to go on with, and the names of those that changed: now in use, or only after a restart."""

    settings: AgentConfig
    changed: tuple[str, ...]
    left: tuple[str, ...]


def merge(old: AgentConfig, new: AgentConfig) -> Change:
    """`new` where it can be used at once, `old` elsewhere.

    Settings of another part of the agent (as the gateway's address, of which updates are fetched) change with the rest.

    Raises:
        ConfigError: the data of `new` cannot be read.
    """
    if new.data != old.data and not os.access(new.data, os.R_OK):
        raise ConfigError(f"data: {new.data} cannot be read: put the texts there first, or correct the path")
    differ = tuple(name for name in new.__struct_fields__ if getattr(new, name) != getattr(old, name))
    left = tuple(name for name in differ if name in AT_A_START)
    settings = msgspec.structs.replace(new, **{name: getattr(old, name) for name in AT_A_START})
    return Change(settings, tuple(name for name in differ if name not in AT_A_START), left)
