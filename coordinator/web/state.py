"""What the live page shows, and what of it has changed since.

Whoever watches gets everything once, and from then on only what is new: of tables (devices, rounds, requests) the rows,
of all else the part. Dates are seconds since 1970. What is not known is null.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

TABLES = ("devices", "rounds", "requests")
GONE = "gone"
"""In a message: the keys of rows that are there no more, by table."""


class DeviceRow(msgspec.Struct, frozen=True, array_like=True):
    """One device, as an array to keep messages small: `COLUMNS` says what is where."""

    online: bool
    part: Literal["", "pending", "answered"]
    """In the open round."""
    late: bool
    """Pending for longer than those that answered took, see `reader`."""
    examples: int | None
    holdout: int | None
    budget_bytes: int | None
    memory_bytes: int | None
    """Of the whole board."""
    peak_bytes: int | None
    """Anonymous memory in the last round that it took part in, at its peak."""
    temperature_c: float | None
    """When it last reported progress of a round."""
    ranks: int | None
    """That it trains in the open round, or trained in its last one."""
    version: int | None
    phase: str
    step: int | None
    steps: int | None
    note: str
    """Its last trouble."""
    answered_round: int | None
    """The last round that has its update."""


COLUMNS = DeviceRow.__struct_fields__


class RoundRow(msgspec.Struct, frozen=True):
    """One closed round; see `coordinator.events.RoundRecord`."""

    round: int
    devices: int
    late: int
    accuracy: float | None
    loss: float | None
    ranks_alive: int
    updates_bytes: int
    delta_bytes: int
    wall_s: float
    returned_to: int | None


class RequestRow(msgspec.Struct, frozen=True):
    """A board that asks to be let in."""

    id: str
    device: str
    fingerprint: str
    date_s: int


class Run(msgspec.Struct, frozen=True):
    """Where the rounds stand. `service` is what the gateway says of their process."""

    service: str
    rounds: int | None = None
    closed: int = 0
    open_round: int | None = None
    opened_s: float | None = None
    deadline_s: float | None = None
    cohort: int = 0
    answered: int = 0
    waiting: str = ""
    """Why nothing goes on."""
    paused: bool = False
    paused_by: str = ""
    paused_date: str = ""


class Level(msgspec.Struct, frozen=True):
    """A service level that has a bound. `value` and `date` are of its last change; null where it never changed."""

    name: str
    bound: float
    met: bool
    value: float | None
    date: str | None


class RankMap(msgspec.Struct, frozen=True):
    """Living ranks by module: `alive[i]` of `slots` in `modules[i]`, which is in block `blocks[i]`."""

    slots: int
    modules: tuple[str, ...]
    blocks: tuple[int, ...]
    alive: tuple[int, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """Everything that the page shows. `rounds` are keyed by their number as text, as JSON wants it."""

    fleet: str
    run: Run
    levels: tuple[Level, ...] = ()
    rank_map: RankMap | None = None
    devices: dict[str, DeviceRow] = {}
    rounds: dict[str, RoundRow] = {}
    requests: dict[str, RequestRow] = {}


def changes(before: Snapshot | None, after: Snapshot) -> dict[str, Any]:
    """The parts of `after` that differ, and the rows; empty where nothing does."""
    found: dict[str, Any] = {}
    gone: dict[str, list[str]] = {}
    for name in Snapshot.__struct_fields__:
        new, old = getattr(after, name), None if before is None else getattr(before, name)
        if name not in TABLES:
            if before is None or new != old:
                found[name] = new
            continue
        known = old or {}
        rows = {key: row for key, row in new.items() if known.get(key) != row}
        lost = [key for key in known if key not in new]
        if rows or before is None:
            found[name] = rows
        if lost:
            gone[name] = lost
    return {**found, GONE: gone} if gone else found


def message(before: Snapshot | None, after: Snapshot, now_s: float) -> bytes | None:
    """The changes as JSON with the present date, for a browser whose clock may be wrong; None where there are none."""
    found = changes(before, after)
    return msgspec.json.encode({"now_s": round(now_s, 1), **found}) if found else None
