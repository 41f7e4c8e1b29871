"""When rounds open and close: a state machine without I/O.

::

    gathering --enough devices ready--> open --all or enough answered, or deadline with quorum--> closing --> ...
        ^                                 | \\--below quorum--> open still, waiting: whoever declined is asked again
        '--nothing stored, nobody left----'                                  ... --last round--> finished

`advance(state, event)` gives the next state and what to do. Times are monotonic seconds, given with the events.
A run that is paused finishes its open round, and opens no other until it is resumed.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from edge_agent.wire.rng import generator

from .config import RoundSettings

T = TypeVar("T")


class Phase(enum.Enum):
    """What the round as a whole is doing."""

    GATHERING = "gathering"
    OPEN = "open"
    CLOSING = "closing"
    FINISHED = "finished"


class Part(enum.Enum):
    """Where one device of the cohort stands in the open round."""

    PENDING = "pending"
    STORED = "stored"
    DECLINED = "declined"


# Events


@dataclass(frozen=True)
class Ready:
    """A device is online and prepared."""

    device: str
    now_s: float


@dataclass(frozen=True)
class Lost:
    """A device went offline."""

    device: str
    now_s: float


@dataclass(frozen=True)
class Expelled:
    """A device is no member of the fleet any more: nothing of it is on disk for the open round."""

    device: str
    now_s: float


@dataclass(frozen=True)
class Stored:
    """A device's update is on disk."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True)
class StoredLate:
    """A device's update of an earlier round is on disk, to be counted in `round`."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True)
class Declined:
    """A device cannot take part in this round, or its update was refused."""

    device: str
    round: int
    now_s: float


@dataclass(frozen=True)
class Closed:
    """The round was aggregated and checkpointed."""

    now_s: float


@dataclass(frozen=True)
class Spoiled:
    """The round cannot be closed: the updates of these devices were damaged on disk, and dropped."""

    devices: tuple[str, ...]
    round: int
    now_s: float


@dataclass(frozen=True)
class Paused:
    """The operator wants no further round for now, or (`on` is False) lets the rounds go on."""

    on: bool
    now_s: float


@dataclass(frozen=True)
class Tick:
    """Time passes."""

    now_s: float


Event = Ready | Lost | Expelled | Stored | StoredLate | Declined | Closed | Spoiled | Paused | Tick


# Actions


@dataclass(frozen=True)
class Open:
    """Send plans to the cohort."""

    round: int
    cohort: tuple[str, ...]


@dataclass(frozen=True)
class Replan:
    """Send the open round's plan to a device that came back, that declined, or that the round waits for."""

    round: int
    device: str


@dataclass(frozen=True)
class Close:
    """Aggregate the updates of these devices."""

    round: int
    contributors: tuple[str, ...]


@dataclass(frozen=True)
class Waiting:
    """Nothing can go on; `reason` is for a person."""

    reason: str


@dataclass(frozen=True)
class Finish:
    """The last round is closed."""


Action = Open | Replan | Close | Waiting | Finish


@dataclass(frozen=True)
class State:
    """`round` is the number of the open (or last closed) round, from 1; 0 before the first."""

    settings: RoundSettings
    seed: int = 0
    """Cohorts are drawn from it."""
    round: int = 0
    phase: Phase = Phase.GATHERING
    ready: frozenset[str] = frozenset()
    parts: Mapping[str, Part] = field(default_factory=dict)
    lost_s: Mapping[str, float] = field(default_factory=dict)
    """When each device that is away went offline."""
    declined_s: Mapping[str, float] = field(default_factory=dict)
    """When each device of the cohort last declined."""
    since_s: float = 0.0
    """When the present phase began."""
    resume_s: float = 0.0
    """No round opens before: set after a round in which nobody could train."""
    waiting: str = ""
    paused: bool = False
    """No round opens."""


Step = tuple[State, tuple[Action, ...]]


def begin(settings: RoundSettings, last_round: int, now_s: float, seed: int = 0) -> State:
    """The state of a coordinator that starts, after `last_round` closed rounds."""
    return State(settings, seed, round=last_round, since_s=now_s)


def reopen(state: State, cohort: Mapping[str, Part], now_s: float) -> State:
    """The state of a coordinator that starts with a round open: its cohort, and what is already on disk.

    Nobody of the cohort has spoken yet, so all of it counts as offline since `now_s`.
    """
    lost = dict.fromkeys(cohort, now_s)
    return replace(state, round=state.round + 1, phase=Phase.OPEN, parts=dict(cohort), lost_s=lost, since_s=now_s)


def advance(state: State, event: Event) -> Step:
    """The state after `event`, and what to do."""
    return _HANDLERS[type(event)](state, event)


def _ready(state: State, event: Ready) -> Step:
    lost = {device: when for device, when in state.lost_s.items() if device != event.device}
    state = replace(state, ready=state.ready | {event.device}, lost_s=lost)
    part = state.parts.get(event.device)
    if state.phase is Phase.OPEN and (part is Part.PENDING or (state.waiting and part is not Part.STORED)):
        return _ask_again(state, (event.device,))
    return _try_open(state, event.now_s)


def _lost(state: State, event: Lost) -> Step:
    lost = {event.device: event.now_s, **state.lost_s}
    return replace(state, ready=state.ready - {event.device}, lost_s=lost), ()


def _expelled(state: State, event: Expelled) -> Step:
    """As if it had never been asked."""
    device = event.device
    state = replace(
        state,
        ready=state.ready - {device},
        parts=_without(state.parts, device),
        lost_s=_without(state.lost_s, device),
        declined_s=_without(state.declined_s, device),
    )
    return _try_close(state, event.now_s) if state.phase is Phase.OPEN else (state, ())


def _tick(state: State, event: Tick) -> Step:
    if state.phase is Phase.OPEN:
        return _try_close(state, event.now_s)
    return _try_open(state, event.now_s)


def _stored(state: State, event: Stored) -> Step:
    if not _takes_part(state, event):
        return state, ()
    return _try_close(replace(state, parts={**state.parts, event.device: Part.STORED}), event.now_s)


def _stored_late(state: State, event: StoredLate) -> Step:
    """The device's part in the open round, whether it was asked or not."""
    if state.phase is not Phase.OPEN or event.round != state.round:
        return state, ()
    return _try_close(replace(state, parts={**state.parts, event.device: Part.STORED}), event.now_s)


def _declined(state: State, event: Declined) -> Step:
    if not _takes_part(state, event) or state.parts[event.device] is Part.STORED:
        return state, ()
    parts = {**state.parts, event.device: Part.DECLINED}
    declined = {**state.declined_s, event.device: event.now_s}
    return _try_close(replace(state, parts=parts, declined_s=declined), event.now_s)


def _takes_part(state: State, event: Stored | Declined) -> bool:
    return state.phase is Phase.OPEN and event.round == state.round and event.device in state.parts


def _closed(state: State, event: Closed) -> Step:
    if state.phase is not Phase.CLOSING:
        return state, ()
    if state.round >= state.settings.rounds:
        return replace(state, phase=Phase.FINISHED, parts={}), (Finish(),)
    return _try_open(replace(state, phase=Phase.GATHERING, parts={}, since_s=event.now_s), event.now_s)


def _spoiled(state: State, event: Spoiled) -> Step:
    """The round is open again, and waits for these devices as it did before."""
    if state.phase is not Phase.CLOSING or event.round != state.round:
        return state, ()
    devices = [device for device in event.devices if device in state.parts]
    parts = {**state.parts, **dict.fromkeys(devices, Part.PENDING)}
    state = replace(state, phase=Phase.OPEN, parts=parts)
    return _ask_again(state, tuple(device for device in devices if device in state.ready))


def _paused(state: State, event: Paused) -> Step:
    """An open round is not touched."""
    return _try_open(replace(state, paused=event.on), event.now_s)


def _try_open(state: State, now_s: float) -> Step:
    if state.phase is not Phase.GATHERING or now_s < state.resume_s:
        return state, ()
    if state.round >= state.settings.rounds:
        return replace(state, phase=Phase.FINISHED), (Finish(),)
    if state.paused:
        return _wait(state, "the rounds are paused, until they are resumed")
    settings, count = state.settings, len(state.ready)
    gathering = state.round == 0 and now_s - state.since_s < settings.gather_s
    needed = settings.expected if gathering else settings.quorum
    if count < needed:
        return _wait(state, f"{count} of {needed} devices are ready")
    cohort = _select(state)
    parts = dict.fromkeys(cohort, Part.PENDING)
    state = replace(
        state, round=state.round + 1, phase=Phase.OPEN, parts=parts, declined_s={}, since_s=now_s, waiting=""
    )
    return state, (Open(state.round, cohort),)


def _select(state: State) -> tuple[str, ...]:
    """Everyone who is ready, or where rounds have a size so many of them, drawn from the seed and the round."""
    ready, settings = sorted(state.ready), state.settings
    count = math.ceil(settings.cohort * settings.over_selection)
    if not 0 < count < len(ready):
        return tuple(ready)
    drawn = generator(state.seed, "cohort", state.round + 1).permutation(len(ready))[:count]
    return tuple(sorted(ready[place] for place in drawn.tolist()))


def _try_close(state: State, now_s: float) -> Step:
    late = any(part is Part.PENDING and not _given_up(state, d, now_s) for d, part in state.parts.items())
    overdue = now_s - state.since_s >= state.settings.deadline_s
    if late and not (overdue or state.settings.cohort):
        return state, ()
    stored = tuple(sorted(d for d, part in state.parts.items() if part is Part.STORED))
    complete = 0 < state.settings.cohort <= len(stored)
    if late and not (overdue or complete):
        return state, ()
    if len(stored) >= state.settings.quorum:
        return replace(state, phase=Phase.CLOSING, waiting=""), (Close(state.round, stored),)
    if not stored and not late:
        return _abandon(state, now_s)
    return _go_on_waiting(state, len(stored), now_s)


def _go_on_waiting(state: State, stored: int, now_s: float) -> Step:
    """Below quorum: says so, asks who came since the round opened, and who declined once the grace time is over."""
    state, said = _wait(state, f"round {state.round} has {stored} updates, its quorum is {state.settings.quorum}")
    state, asked = _ask_again(state, tuple(sorted(d for d in state.ready if _may_help(state, d, now_s))))
    return state, (*said, *asked)


def _may_help(state: State, device: str, now_s: float) -> bool:
    part = state.parts.get(device)
    if part is Part.DECLINED:
        return now_s - state.declined_s[device] >= state.settings.grace_s
    return part is None


def _ask_again(state: State, devices: tuple[str, ...]) -> Step:
    parts = {**state.parts, **dict.fromkeys(devices, Part.PENDING)}
    return replace(state, parts=parts), tuple(Replan(state.round, device) for device in devices)


def _without(table: Mapping[str, T], device: str) -> dict[str, T]:
    return {name: value for name, value in table.items() if name != device}


def _given_up(state: State, device: str, now_s: float) -> bool:
    lost_s = state.lost_s.get(device)
    return lost_s is not None and now_s - lost_s >= state.settings.grace_s


def _abandon(state: State, now_s: float) -> Step:
    """Goes back to before the round, to try again after the grace time: nothing was stored, so nothing is lost."""
    resume_s = now_s + state.settings.grace_s
    state = replace(state, round=state.round - 1, phase=Phase.GATHERING, parts={}, since_s=now_s, resume_s=resume_s)
    return _wait(state, f"no device of the cohort could train round {state.round + 1}")


def _wait(state: State, reason: str) -> Step:
    if reason == state.waiting:
        return state, ()
    return replace(state, waiting=reason), (Waiting(reason),)


_HANDLERS: dict[type, Callable[[State, Any], Step]] = {
    Ready: _ready,
    Lost: _lost,
    Expelled: _expelled,
    Stored: _stored,
    StoredLate: _stored_late,
    Declined: _declined,
    Closed: _closed,
    Spoiled: _spoiled,
    Paused: _paused,
    Tick: _tick,
}
