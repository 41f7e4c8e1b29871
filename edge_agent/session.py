"""The agent's session with its coordinator: a state machine without I/O.

`advance(state, event)` gives the next state and the actions to carry out; the shell (`agent`) performs them and feeds
back what came of it. Work goes through these phases::

    joining -> fetching -> measuring -> idle -> catching_up -> training -> offering -> idle -> ...
                                          \\-> catching_up -> finishing -> done

The connection is a separate matter: after every reconnection the agent says Hello, the coordinator answers Welcome,
and the agent repeats what its phase has to say. So a lost message, a restarted broker and a restarted coordinator
are all the same case.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec

from edge_agent.wire import messages as m

T = TypeVar("T")

HELLO_AGAIN_S = 5.0
OFFER_AGAIN_S = 10.0
READY_AGAIN_S = 30.0


class Phase(enum.Enum):
    """What the agent is working on."""

    JOINING = "joining"
    FETCHING = "fetching"
    MEASURING = "measuring"
    IDLE = "idle"
    CATCHING_UP = "catching_up"
    TRAINING = "training"
    OFFERING = "offering"
    FINISHING = "finishing"
    DONE = "done"


# Events


@dataclass(frozen=True)
class Connected:
    """The link is up."""


@dataclass(frozen=True)
class Disconnected:
    """The link is down; it reconnects by itself."""


@dataclass(frozen=True)
class PackReady:
    """Every file of the pack is on disk and verified."""


@dataclass(frozen=True)
class Measured:
    """The data was read and the device's capability is known."""

    examples: int
    holdout: int
    longest_tokens: int
    capability: m.Capability


@dataclass(frozen=True)
class Fetched:
    """The objects that `Fetch` asked for are on disk and verified."""


@dataclass(frozen=True)
class FetchFailed:
    """The coordinator no longer has an object that was asked for."""


@dataclass(frozen=True)
class Trained:
    """The round's update is in the outbox."""

    offer: m.Offer


@dataclass(frozen=True)
class FinalKept:
    """The final model is on disk."""

    finished: m.Finished


@dataclass(frozen=True)
class JobFailed:
    """The trainer process failed; `smallest_budget_bytes` is set where memory is the reason."""

    reason: str
    smallest_budget_bytes: int | None = None


@dataclass(frozen=True)
class Tick:
    """Time passes; `now_s` is monotonic."""

    now_s: float


Event = (
    Connected
    | Disconnected
    | PackReady
    | Measured
    | Fetched
    | FetchFailed
    | Trained
    | FinalKept
    | JobFailed
    | Tick
    | m.Welcome
    | m.Plan
    | m.Acknowledged
    | m.Rejected
    | m.Final
    | m.Leave
)


# Actions


@dataclass(frozen=True)
class Send:
    """Send a message to the coordinator."""

    message: m.Message


@dataclass(frozen=True)
class Join:
    """Remember the fleet's terms; `fresh` if the model state and the outbox belong to other terms: drop them."""

    welcome: m.Welcome
    fresh: bool


@dataclass(frozen=True)
class FetchPack:
    """Bring the pack to disk: the manifest, then the files that it lists."""

    manifest: m.ObjectRef


@dataclass(frozen=True)
class Measure:
    """Read the data and measure the device (or replay a recorded capability)."""

    welcome: m.Welcome


@dataclass(frozen=True)
class Fetch:
    """Bring these objects to disk."""

    refs: tuple[m.ObjectRef, ...]


@dataclass(frozen=True)
class Train:
    """Run one round in a trainer process."""

    plan: m.Plan


@dataclass(frozen=True)
class KeepFinal:
    """Bring the state to the final version and keep it for prediction."""

    final: m.Final


@dataclass(frozen=True)
class StopJob:
    """Stop the trainer process, if one runs."""


@dataclass(frozen=True)
class Settle:
    """The update of this round is safe with the coordinator: drop it from the outbox."""

    round: int


@dataclass(frozen=True)
class Exit:
    """End the agent. `failure` is None for an orderly end."""

    failure: str | None


Action = Send | Join | FetchPack | Measure | Fetch | Train | KeepFinal | StopJob | Settle | Exit


@dataclass(frozen=True)
class State:
    """Everything the session remembers.

    `version` is that of the model state on disk, `welcome` the terms that it belongs to (also those of an earlier
    run), `offer` the update in the outbox.
    """

    agent_version: str
    pack: bytes | None
    version: int
    phase: Phase = Phase.JOINING
    online: bool = False
    welcomed: bool = False
    repeat_due_s: float = 0.0
    """When to say again what nobody has answered."""
    welcome: m.Welcome | None = None
    ready: m.Ready | None = None
    work: m.Plan | m.Final | None = None
    offer: m.Offer | None = None


Step = tuple[State, tuple[Action, ...]]


def advance(state: State, event: Event) -> Step:
    """The state after `event`, and what to do. Events that the phase has no use for change nothing."""
    return _HANDLERS[type(event)](state, event)


def _hello(state: State) -> Send:
    return Send(m.Hello(state.agent_version, state.pack, state.version))


def _connected(state: State, event: Connected) -> Step:
    return replace(state, online=True, welcomed=False, repeat_due_s=0.0), ()


def _disconnected(state: State, event: Disconnected) -> Step:
    return replace(state, online=False, welcomed=False), ()


def _tick(state: State, event: Tick) -> Step:
    if not state.online or event.now_s < state.repeat_due_s:
        return state, ()
    if not state.welcomed:
        return replace(state, repeat_due_s=event.now_s + HELLO_AGAIN_S), (_hello(state),)
    if state.phase is Phase.OFFERING:
        return replace(state, repeat_due_s=event.now_s + OFFER_AGAIN_S), _repeat(state)
    if state.phase is Phase.IDLE:
        return replace(state, repeat_due_s=event.now_s + READY_AGAIN_S), _repeat(state)
    return state, ()


def _welcome(state: State, event: m.Welcome) -> Step:
    known, joining = state.welcome, state.phase is Phase.JOINING
    state = replace(state, welcomed=True, welcome=event)
    if known is not None and _start_of(known) != _start_of(event):
        state = replace(state, phase=Phase.FETCHING, version=0, ready=None, work=None, offer=None)
        return state, (StopJob(), Join(event, fresh=True), FetchPack(event.pack))
    if joining:
        return replace(state, phase=Phase.FETCHING), (Join(event, fresh=False), FetchPack(event.pack))
    return state, (Join(event, fresh=False), *_repeat(state))


def _start_of(welcome: m.Welcome) -> tuple[object, ...]:
    """The terms that fix what a model state means; the settings of training may change between rounds."""
    return welcome.fleet, welcome.seed, welcome.slots, welcome.classes, welcome.pack


def _repeat(state: State) -> tuple[Action, ...]:
    """What the present phase has to say to a coordinator that may know nothing of it."""
    if state.phase is Phase.OFFERING and state.ready is not None and state.offer is not None:
        return Send(state.ready), Send(state.offer)
    if state.ready is not None and state.phase is not Phase.DONE:
        return (Send(state.ready),)
    return ()


def _pack_ready(state: State, event: PackReady) -> Step:
    if state.phase is not Phase.FETCHING or state.welcome is None:
        return state, ()
    state = replace(state, phase=Phase.MEASURING, pack=state.welcome.pack.sha256)
    return state, (Measure(_required(state.welcome)),)


def _measured(state: State, event: Measured) -> Step:
    if state.phase is not Phase.MEASURING:
        return state, ()
    pack = _required(state.welcome).pack.sha256
    ready = m.Ready(pack, event.examples, event.holdout, event.longest_tokens, state.version, event.capability)
    state = replace(state, phase=Phase.IDLE, ready=ready)
    if state.offer is not None:
        return replace(state, phase=Phase.OFFERING), (Send(ready), Send(state.offer))
    return state, (Send(ready),)


def _plan(state: State, event: m.Plan) -> Step:
    if state.phase in _WORKING and state.work == event:
        return state, ()
    if state.phase is Phase.OFFERING and state.offer is not None:
        if state.offer.round == event.round:
            return state, (Send(state.offer),)
    elif state.phase not in (Phase.IDLE, *_WORKING):
        return state, ()
    stop = (StopJob(),) if state.phase in _WORKING else ()
    state = replace(state, phase=Phase.CATCHING_UP, work=event, offer=None)
    return state, (*stop, Fetch(event.deltas))


def _final(state: State, event: m.Final) -> Step:
    if state.phase is Phase.FINISHING or (state.phase in _WORKING and state.work == event):
        return state, ()
    if state.phase not in (Phase.IDLE, Phase.OFFERING, *_WORKING):
        return state, ()
    stop = (StopJob(),) if state.phase in _WORKING else ()
    state = replace(state, phase=Phase.CATCHING_UP, work=event, offer=None)
    return state, (*stop, Fetch(event.deltas))


def _fetched(state: State, event: Fetched) -> Step:
    if state.phase is not Phase.CATCHING_UP:
        return state, ()
    if isinstance(state.work, m.Final):
        return replace(state, phase=Phase.FINISHING), (KeepFinal(state.work),)
    return replace(state, phase=Phase.TRAINING), (Train(_required(state.work)),)


def _fetch_failed(state: State, event: FetchFailed) -> Step:
    if state.phase is Phase.FETCHING:
        return replace(state, phase=Phase.JOINING, welcomed=False), ()
    if state.phase is not Phase.CATCHING_UP:
        return state, ()
    return replace(state, phase=Phase.IDLE, work=None, welcomed=False), ()


def _trained(state: State, event: Trained) -> Step:
    if state.phase is not Phase.TRAINING or not isinstance(state.work, m.Plan):
        return state, ()
    state = _at_version(replace(state, phase=Phase.OFFERING, offer=event.offer), state.work.version)
    return state, (Send(event.offer),)


def _at_version(state: State, version: int) -> State:
    ready = None if state.ready is None else msgspec.structs.replace(state.ready, version=version)
    return replace(state, version=version, ready=ready)


def _job_failed(state: State, event: JobFailed) -> Step:
    if state.phase is Phase.MEASURING:
        declined = m.Declined(0, event.reason, event.smallest_budget_bytes)
        return replace(state, phase=Phase.DONE), (Send(declined), Exit(event.reason))
    if state.phase not in (Phase.TRAINING, Phase.FINISHING) or state.work is None:
        return state, ()
    number = state.work.round if isinstance(state.work, m.Plan) else state.work.version
    declined = m.Declined(number, event.reason, event.smallest_budget_bytes)
    return replace(state, phase=Phase.IDLE, work=None), (Send(declined),)


def _acknowledged(state: State, event: m.Acknowledged) -> Step:
    offer = state.offer
    if state.phase is not Phase.OFFERING or offer is None or offer.update.sha256 != event.sha256:
        return state, ()
    return replace(state, phase=Phase.IDLE, work=None, offer=None), (Settle(event.round),)


def _rejected(state: State, event: m.Rejected) -> Step:
    if event.final:
        return replace(state, phase=Phase.DONE), (StopJob(), Exit(f"the coordinator refused: {event.reason}"))
    if state.phase is Phase.OFFERING and state.offer is not None and state.offer.round == event.round:
        state = replace(state, phase=Phase.IDLE, work=None, offer=None)
        return state, (Settle(_required(event.round)),)
    return state, ()


def _final_kept(state: State, event: FinalKept) -> Step:
    if state.phase is not Phase.FINISHING:
        return state, ()
    state = _at_version(replace(state, phase=Phase.IDLE, work=None), event.finished.version)
    return state, (Send(event.finished),)


def _leave(state: State, event: m.Leave) -> Step:
    return replace(state, phase=Phase.DONE), (StopJob(), Exit(None))


def _required(value: T | None) -> T:
    if value is None:
        raise AssertionError("the phase implies that this is set")
    return value


_WORKING = (Phase.CATCHING_UP, Phase.TRAINING, Phase.FINISHING)

_HANDLERS: dict[type, Callable[[State, Any], Step]] = {
    Connected: _connected,
    Disconnected: _disconnected,
    Tick: _tick,
    PackReady: _pack_ready,
    Measured: _measured,
    Fetched: _fetched,
    FetchFailed: _fetch_failed,
    Trained: _trained,
    FinalKept: _final_kept,
    JobFailed: _job_failed,
    m.Welcome: _welcome,
    m.Plan: _plan,
    m.Acknowledged: _acknowledged,
    m.Rejected: _rejected,
    m.Final: _final,
    m.Leave: _leave,
}
