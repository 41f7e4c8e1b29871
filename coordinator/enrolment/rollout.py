"""A rollout: one release, given to the devices of a fleet group by group. A pure state machine; times are given in.

Groups open one after the other, the canaries first. A device is offered the release while its group is open. The next
group opens when enough of the last one have installed it and a soak time has passed since. As soon as too many of an
open group have failed for that, the rollout stops by itself.

Reports only add to what is known of a device (the worst that was said of it stays), and every change of phase is made
by `tick`. So the order in which reports come does not matter.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_agent.wire.errors import ConfigError
from edge_agent.wire.updates import Facts, Kind, ReleaseOrder, Reported, parse_version

Phase = Literal["running", "paused", "stopped", "done", "returning", "returned"]
Outcome = Literal["pending", "untouched", "silent", "unfit", "ahead", "installed", "failed", "returned"]
"""
pending    nothing is known yet
untouched  the rollout ended before its turn
silent     no report within the limit
unfit      no bundle of the release is for its machine and Python, or apt manages its agent
ahead      it runs a newer version already
installed  it runs the release
failed     it could not install the release, and runs what it ran before
returned   it had the release, and went back to the one before
"""

_RANK: dict[Outcome, int] = {
    "pending": 0,
    "untouched": 1,
    "silent": 2,
    "unfit": 3,
    "ahead": 3,
    "installed": 4,
    "failed": 5,
    "returned": 6,
}
_BAD = ("failed", "returned", "silent")
_NOT_COUNTED = ("unfit", "ahead")
_ROUNDING = 1e-9
"""A share such as 0.9 of 10 devices is 9 of them, whatever floating point makes of the product."""


class Bundle(msgspec.Struct, frozen=True):
    """A file of a release; `machine` and `python` are empty where it fits every board, as a pack does."""

    name: str
    sha256: str
    size_bytes: int
    machine: str = ""
    python: str = ""

    def fits(self, facts: Facts) -> bool:
        """Whether a board can run it."""
        return self.machine in ("", facts.machine) and self.python in ("", facts.python)


class Release(msgspec.Struct, frozen=True):
    """What is rolled out: one version of the agent in a bundle for each kind of board, or a pack."""

    kind: Kind
    version: str
    bundles: tuple[Bundle, ...]


class Terms(msgspec.Struct, frozen=True):
    """When the next group opens, and when a device counts as silent."""

    threshold: Annotated[float, Meta(gt=0, le=1)] = 0.9
    """Share of a group that must have installed the release; devices that it does not fit do not count."""
    soak_s: Annotated[float, Meta(ge=0)] = 3600.0
    """Seconds from reaching the threshold to the opening of the next group."""
    silent_s: Annotated[float, Meta(gt=0)] = 2 * 86400.0
    """Seconds from the opening of its group after which a device without a report is silent."""


class Device(msgspec.Struct, frozen=True):
    """What is known of a device in this rollout."""

    outcome: Outcome = "pending"
    since_s: float = 0.0
    reason: str = ""
    offered: bool = False


class Rollout(msgspec.Struct, frozen=True):
    """The whole state. `opened_s` holds when each open group was opened, first group first."""

    release: Release
    terms: Terms
    groups: tuple[tuple[str, ...], ...]
    devices: dict[str, Device]
    opened_s: tuple[float, ...]
    phase: Phase = "running"
    phase_since_s: float = 0.0
    why: str = ""


def deal(
    devices: Iterable[str], canaries: int | tuple[str, ...], shares: tuple[float, ...], seed: str
) -> tuple[tuple[str, ...], ...]:
    """The groups: canaries first (named, or so many drawn), then up to each of `shares` of all devices together.

    The same devices and seed give the same groups.

    Raises:
        ConfigError: no devices, unknown canaries, or shares that do not rise to 1.
    """
    names = sorted(set(devices), key=lambda name: hashlib.sha256(f"{seed}\0{name}".encode()).digest())
    if not names:
        raise ConfigError("a rollout needs a device at least: none has asked this gateway for orders yet")
    if not shares or any(b <= a for a, b in zip((0.0, *shares), shares, strict=False)) or shares[-1] != 1:
        raise ConfigError(f"the groups' shares rise to 100 %, such as 25 % and 100 %; got {_percent(shares)}")
    first = _canaries(names, canaries)
    order = [*first, *(name for name in names if name not in set(first))]
    ends = [max(len(first), math.ceil(share * len(names) - _ROUNDING)) for share in (0.0, *shares)]
    return tuple(tuple(order[a:b]) for a, b in zip((0, *ends), ends, strict=False) if b > a)


def start(release: Release, terms: Terms, groups: tuple[tuple[str, ...], ...], now_s: float) -> Rollout:
    """A rollout whose first group is open."""
    devices = {name: Device() for group in groups for name in group}
    return Rollout(release, terms, groups, devices, (now_s,), phase_since_s=now_s)


def tick(rollout: Rollout, now_s: float) -> Rollout:
    """What time and reports bring: silence, the next group, the stop, the end."""
    if rollout.phase != "paused":
        rollout = _hear_silence(rollout, now_s)
    if rollout.phase in ("running", "paused") and (why := _why_stop(rollout)):
        rollout = _enter(rollout, "stopped", now_s, why)
    while rollout.phase == "running" and _may_open(rollout, now_s):
        rollout = msgspec.structs.replace(rollout, opened_s=(*rollout.opened_s, now_s))
    if rollout.phase == "running" and all(device.outcome != "pending" for device in rollout.devices.values()):
        rollout = _enter(rollout, "done", now_s, "every device has an outcome")
    if rollout.phase == "returning" and not any(_may_have(device) for device in rollout.devices.values()):
        rollout = _enter(rollout, "returned", now_s, "no device has the release any more")
    return rollout


def report(rollout: Rollout, name: str, outcome: Reported, reason: str, now_s: float) -> Rollout:
    """Adds what a device said; devices of other rollouts are none of ours."""
    return _note(rollout, name, outcome, reason, now_s) if name in rollout.devices else rollout


def ask(rollout: Rollout, number: int, name: str, facts: Facts, now_s: float) -> tuple[Rollout, ReleaseOrder | None]:
    """The order for a device that asks and says what it runs; `number` is the rollout's."""
    rollout = tick(rollout, now_s)
    if name not in rollout.devices:
        return rollout, None
    if rollout.phase in ("returning", "returned"):
        return _ask_back(rollout, number, name, facts, now_s)
    if rollout.phase in ("running", "done") and name in open_devices(rollout):
        return _ask_on(rollout, number, name, facts, now_s)
    return rollout, None


def pause(rollout: Rollout, now_s: float) -> Rollout:
    """Nothing more is offered until `resume`. Raises as `stop`."""
    _require(rollout, "pause", "running")
    return _enter(rollout, "paused", now_s, "paused by the operator")


def resume(rollout: Rollout, now_s: float) -> Rollout:
    """Goes on; the time of the pause does not make a device silent. Raises as `stop`."""
    _require(rollout, "resume", "paused")
    opened_s = tuple(at_s + now_s - rollout.phase_since_s for at_s in rollout.opened_s)
    rollout = _enter(msgspec.structs.replace(rollout, opened_s=opened_s), "running", now_s, "resumed by the operator")
    return tick(rollout, now_s)


def stop(rollout: Rollout, now_s: float) -> Rollout:
    """Ends the offers for good; what is installed stays.

    Raises:
        ConfigError: the rollout is in a phase that this does not lead on from.
    """
    _require(rollout, "stop", "running", "paused")
    return _enter(rollout, "stopped", now_s, "stopped by the operator")


def order_return(rollout: Rollout, now_s: float) -> Rollout:
    """Ends the offers, and has the devices that took the release go back. Raises as `stop`."""
    _require(rollout, "return", "running", "paused", "stopped", "done")
    return tick(_enter(rollout, "returning", now_s, "return ordered by the operator"), now_s)


def open_devices(rollout: Rollout) -> frozenset[str]:
    """The devices of all open groups: no others can be at risk."""
    return frozenset(name for group in rollout.groups[: len(rollout.opened_s)] for name in group)


def needed(rollout: Rollout, group: int) -> tuple[int, int]:
    """How many devices of a group must have installed the release, and how many of it count."""
    counted = sum(device.outcome not in _NOT_COUNTED for device in _members(rollout, group))
    return math.ceil(rollout.terms.threshold * counted - _ROUNDING), counted


def _canaries(names: list[str], canaries: int | tuple[str, ...]) -> list[str]:
    if isinstance(canaries, int):
        if canaries < 1:
            raise ConfigError(f"a rollout has a canary at least, got {canaries}")
        return names[:canaries]
    if not canaries or (unknown := sorted(set(canaries) - set(names))):
        raise ConfigError(f"canaries are devices of the fleet: unknown are {', '.join(unknown) if canaries else 'all'}")
    return [name for name in names if name in canaries]


def _members(rollout: Rollout, group: int) -> Iterator[Device]:
    return (rollout.devices[name] for name in rollout.groups[group])


def _hear_silence(rollout: Rollout, now_s: float) -> Rollout:
    for group, opened_s in zip(rollout.groups, rollout.opened_s, strict=False):
        due_s = opened_s + rollout.terms.silent_s
        if now_s < due_s:
            continue
        why = f"no report within {rollout.terms.silent_s:g} s"
        for name in group:
            if rollout.devices[name].outcome == "pending":
                rollout = _note(rollout, name, "silent", why, due_s)
    return rollout


def _why_stop(rollout: Rollout) -> str:
    """Why the rollout cannot go on; empty where it can."""
    for group in range(len(rollout.opened_s)):
        least, counted = needed(rollout, group)
        bad = sum(device.outcome in _BAD for device in _members(rollout, group))
        if counted - bad < least:
            return f"group {group + 1}: {bad} of {counted} devices failed, returned or are silent, {least} must succeed"
        if not counted and not any(device.outcome == "installed" for device in rollout.devices.values()):
            return f"group {group + 1}: the release fits none of its devices, so it would go on untried"
    return ""


def _may_open(rollout: Rollout, now_s: float) -> bool:
    """Whether the last open group has shown enough for the next one."""
    last = len(rollout.opened_s) - 1
    if last + 1 >= len(rollout.groups):
        return False
    least, _ = needed(rollout, last)
    installed_s = sorted(device.since_s for device in _members(rollout, last) if device.outcome == "installed")
    if len(installed_s) < least:
        return False
    reached_s = max(installed_s[least - 1], rollout.opened_s[last]) if least else rollout.opened_s[last]
    return now_s >= reached_s + rollout.terms.soak_s


def _may_have(device: Device) -> bool:
    return device.outcome == "installed" or (device.offered and device.outcome in ("pending", "silent"))


def _ask_on(
    rollout: Rollout, number: int, name: str, facts: Facts, now_s: float
) -> tuple[Rollout, ReleaseOrder | None]:
    """The order to install, for whoever has not answered one, unless it cannot or need not be followed."""
    device = rollout.devices[name]
    if device.outcome not in ("pending", "silent"):
        return rollout, None
    bundle, known = _bundle(rollout.release, facts), _told_by(rollout.release, facts)
    if bundle is None or known is not None:
        outcome, why = known or ("unfit", f"no bundle for {facts.machine} with Python {facts.python}")
        return tick(_note(rollout, name, outcome, why, now_s), now_s), None
    offered = msgspec.structs.replace(device, offered=True)
    return _with(rollout, name, offered), _order(rollout.release, bundle, number, returns=False)


def _ask_back(
    rollout: Rollout, number: int, name: str, facts: Facts, now_s: float
) -> tuple[Rollout, ReleaseOrder | None]:
    """The order to go back, for whoever has the release or may have it."""
    device, release = rollout.devices[name], rollout.release
    runs_it = release.kind == "agent" and facts.version == release.version
    if not (runs_it or _may_have(device)):
        return rollout, None
    if release.kind == "agent" and not runs_it:
        why = f"it runs {facts.version}"
        return tick(_note(rollout, name, "returned", why, now_s), now_s), None
    bundle = _bundle(release, facts) or release.bundles[0]
    return rollout, _order(release, bundle, number, returns=True)


def _told_by(release: Release, facts: Facts) -> tuple[Outcome, str] | None:
    """What the version that a device runs says already."""
    if release.kind != "agent":
        return None
    if facts.version == release.version:
        return "installed", "it runs this version"
    if parse_version(facts.version) > parse_version(release.version):
        return "ahead", f"it runs {facts.version}"
    return None


def _bundle(release: Release, facts: Facts) -> Bundle | None:
    return next((bundle for bundle in release.bundles if bundle.fits(facts)), None)


def _order(release: Release, bundle: Bundle, number: int, *, returns: bool) -> ReleaseOrder:
    return ReleaseOrder(
        bundle.name, bundle.sha256, bundle.size_bytes, release.version, release.kind, number, returns=returns
    )


def _note(rollout: Rollout, name: str, outcome: Outcome, reason: str, now_s: float) -> Rollout:
    """Of two outcomes the later one in the ranking stays; of two that are equal, the earlier one."""
    old = rollout.devices[name]
    new = msgspec.structs.replace(old, outcome=outcome, since_s=now_s, reason=reason)
    if (-_RANK[new.outcome], now_s, outcome, reason) >= (-_RANK[old.outcome], old.since_s, old.outcome, old.reason):
        return rollout
    return _with(rollout, name, new)


def _with(rollout: Rollout, name: str, device: Device) -> Rollout:
    return msgspec.structs.replace(rollout, devices={**rollout.devices, name: device})


def _enter(rollout: Rollout, phase: Phase, now_s: float, why: str) -> Rollout:
    rollout = msgspec.structs.replace(rollout, phase=phase, phase_since_s=now_s, why=why)
    if phase in ("stopped", "returning"):
        reached = open_devices(rollout)
        for name, device in rollout.devices.items():
            if not device.offered and (name not in reached or device.outcome == "pending"):
                rollout = _note(rollout, name, "untouched", "the rollout ended before its turn", now_s)
    return rollout


def _require(rollout: Rollout, what: str, *phases: Phase) -> None:
    if rollout.phase not in phases:
        raise ConfigError(f"{what}: expected a rollout that is {' or '.join(phases)}, this one is {rollout.phase}")


def _percent(shares: tuple[float, ...]) -> str:
    return ", ".join(f"{share:.0%}" for share in shares) or "none"
