"""Tells Home Assistant of the boards, by its MQTT discovery: one retained message a board that says what there is, and
one with how it is. Off unless it is asked for.

https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery (device discovery). What cannot be sent now is sent with
a later event, and everything again after a reconnection: the broker may have lost it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import msgspec

from coordinator import events
from edge_agent.wire.topics import COORDINATOR, ROOT

PREFIX = "homeassistant"
BOARDS = "boards"
Keep = Callable[[str, bytes], bool]
"""Publishes a retained message; False where it cannot be sent now."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_SENSORS: dict[str, dict[str, str]] = {
    "examples": {"name": "Examples"},
    "budget_bytes": {"name": "Memory budget", "dev_cla": "data_size", "unit_of_meas": "B"},
    "peak_bytes": {"name": "Peak memory", "dev_cla": "data_size", "unit_of_meas": "B"},
    "temperature_c": {"name": "Temperature", "dev_cla": "temperature", "unit_of_meas": "°C"},
    "ranks": {"name": "Ranks"},
    "round": {"name": "Round"},
    "note": {"name": "Last error"},
}
_LONGEST_STATE = 255
"""Characters that a state of Home Assistant's has at most."""


class Board(msgspec.Struct, frozen=True):
    """How a board is; null is not known."""

    online: bool = False
    examples: int | None = None
    budget_bytes: int | None = None
    peak_bytes: int | None = None
    temperature_c: float | None = None
    ranks: int | None = None
    round: int | None = None
    note: str | None = None


class HomeAssistant:
    """Hands every event on to `watch`, and tells of those that change how a board is."""

    def __init__(self, fleet: str, keep: Keep, watch: events.Watch) -> None:
        self._fleet = fleet
        self._keep = keep
        self._watch = watch
        self._boards: dict[str, Board] = {}
        self._due: dict[str, bytes] = {}
        """By topic, what has not been sent yet; of each the newest."""

    def __call__(self, event: events.Watched) -> None:
        """An event, as `events.Watch`."""
        if isinstance(event, events.Listening):
            for device in self._boards:
                self._announce(device)
        named: str | None = getattr(event, "device", None)
        if named is not None:
            self._follow(named, event)
        for topic, body in list(self._due.items()):
            if not self._keep(topic, body):
                break
            del self._due[topic]
        self._watch(event)

    def _follow(self, device: str, event: events.Watched) -> None:
        before = self._boards.get(device)
        after = changed(before or Board(), event)
        if after == before:
            return
        self._boards[device] = after
        if before is None:
            self._announce(device)
        self._due[state_topic(self._fleet, device)] = msgspec.json.encode(after)

    def _announce(self, device: str) -> None:
        self._due[config_topic(self._fleet, device)] = msgspec.json.encode(discovery(self._fleet, device))
        self._due[state_topic(self._fleet, device)] = msgspec.json.encode(self._boards[device])


def changed(board: Board, event: events.Watched) -> Board:
    """How the board of `event` is after it."""
    put = msgspec.structs.replace
    if isinstance(event, events.Joined):
        return put(board, online=True, examples=event.examples, budget_bytes=event.budget_bytes, note=None)
    if isinstance(event, events.Left):
        return put(board, online=False, note=event.reason[:_LONGEST_STATE])
    if isinstance(event, events.Received):
        report = event.report
        return put(board, round=event.round, ranks=report.ranks, peak_bytes=report.peak_anonymous_bytes)
    if isinstance(event, events.Training):
        return put(board, temperature_c=None if event.temperature_c is None else round(event.temperature_c))
    if isinstance(event, events.Refused):
        return put(board, note=event.reason[:_LONGEST_STATE])
    return board


def discovery(fleet: str, device: str) -> dict[str, Any]:
    """What there is of a board, in Home Assistant's abbreviations."""
    own = identifier(fleet, device)
    parts: dict[str, dict[str, str]] = {
        "online": {
            "p": "binary_sensor", "name": "Connected", "dev_cla": "connectivity", "uniq_id": f"{own}_online",
            "val_tpl": "{{ 'ON' if value_json.online else 'OFF' }}",
        }
    }  # fmt: skip
    for key, more in _SENSORS.items():
        parts[key] = {"p": "sensor", "uniq_id": f"{own}_{key}", "val_tpl": f"{{{{ value_json.{key} }}}}", **more}
    return {
        "dev": {"ids": [own], "name": device, "mf": "rankfleet", "mdl": fleet},
        "o": {"name": "rankfleet", "sw": version("rankfleet")},
        "cmps": parts,
        "stat_t": state_topic(fleet, device),
        "qos": 1,
    }


def config_topic(fleet: str, device: str) -> str:
    """Where Home Assistant finds out about a board."""
    return f"{PREFIX}/device/{identifier(fleet, device)}/config"


def state_topic(fleet: str, device: str) -> str:
    """Where it finds out how the board is."""
    return f"{ROOT}/{fleet}/{COORDINATOR}/{BOARDS}/{device}"


def identifier(fleet: str, device: str) -> str:
    """A name of letters, digits, `_` and `-`, another for each board of each fleet."""
    name = f"{ROOT}_{fleet}_{device}"
    if _PLAIN.fullmatch(f"{fleet}{device}") and "_" not in f"{fleet}{device}":
        return name
    digest = hashlib.sha256(f"{fleet}/{device}".encode()).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]', '-', name)}_{digest}"
