"""Recorded capabilities: what devices measured of themselves, in one file, so that a run's plans can be repeated."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.malformed import MALFORMED
from edge_agent.wire.settings import read_text


def load_all(path: Path) -> dict[str, m.Capability]:
    """Capabilities by device.

    Raises:
        ConfigError: the file cannot be read or is no capabilities file.
    """
    try:
        return msgspec.json.decode(read_text(path, "capabilities"), type=dict[str, m.Capability])
    except MALFORMED as error:
        raise ConfigError(f"{path} is not a capabilities file: {error}; record a new one with a run") from error


def load(path: Path, device: str) -> m.Capability:
    """The capability of `device`.

    Raises:
        ConfigError: as `load_all`, or the file does not name the device.
    """
    known = load_all(path)
    if device not in known:
        raise ConfigError(f"{path} has no capability of {device}; it has those of {', '.join(sorted(known))}")
    return known[device]


def dump(capabilities: dict[str, m.Capability]) -> bytes:
    """The file that `load_all` reads, laid out for a person."""
    return msgspec.json.format(msgspec.json.encode(capabilities, order="sorted"), indent=2) + b"\n"
