"""The agent's session with its coordinator: a state machine without I/O.

`advance(state, event)` gives the next state and the actions to carry out; the shell (`agent`) performs them and feeds
back what came of it. Work goes through these phases::

    joining -> fetching -> measuring -> idle -> catching_up -> training -> offering -> idle -> ...
                                          \\-> catching_up -> finishing -> idle -> done

An idle device whose data have changed measures again; a plan or the final model comes first, and ends that.

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

from edge_agent import session_events as events
from edge_agent.wire import messages as m

T = TypeVar("T")

HELLO_AGAIN_S = 5.0
OFFER_AGAIN_S = 10.0
READY_AGAIN_S = 30.0
MOST_RESTARTS = 3
"""How often a job whose process was killed is started again, before the device gives it up."""


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


IN_A_ROUND = (Phase.CATCHING_UP, Phase.TRAINING, Phase.OFFERING, Phase.FINISHING)
_WORKING = (Phase.CATCHING_UP, Phase.TRAINING, Phase.FINISHING)
JOBS = (Phase.MEASURING, Phase.TRAINING, Phase.FINISHING)
"""Phases in which a trainer process runs."""


@dataclass(frozen=True)
class State:
    """Everything the session remembers.

    `version` is that of the model state on disk, `welcome` the terms that it belongs to (also those of an earlier
    run), `work` the plan or final model at hand, `offer` the update in the outbox.
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
    restarts: int = 0
    """How often the present job was started again."""
    outdated: bool = False
    """Whether the settings changed under `ready`: between two rounds the device measures itself again."""


Step = tuple[State, tuple[events.Action, ...]]


def advance(state: State, event: events.Event) -> Step:
    """The state after `event`, and what to do. Events that the phase has no use for change nothing."""
    if state.phase is Phase.DONE:
        return state, ()
    state, actions = _HANDLERS[type(event)](state, event)
    if not state.outdated or state.phase is not Phase.IDLE:
        return state, actions
    state, again = _begin(replace(state, phase=Phase.MEASURING, ready=None, outdated=False))
    return state, (*actions, *again)


def _connected(state: State, event: events.Connected) -> Step:
    return replace(state, online=True, welcomed=False, repeat_due_s=0.0), ()


def _disconnected(state: State, event: events.Disconnected) -> Step:
    return replace(state, online=False, welcomed=False), ()


def _tick(state: State, event: events.Tick) -> Step:
    """Says again what nobody answered, and that the device is there: a coordinator gives up who is silent.

    A Welcome alone does not tell that Hello was heard: a coordinator that starts greets everybody. To one that takes us
    for outdated nothing but a Hello gets through, so it is said again until the pack is here.
    """
    if not state.online or event.now_s < state.repeat_due_s:
        return state, ()
    if not state.welcomed or state.phase is Phase.FETCHING:
        hello = m.Hello(state.agent_version, state.pack, state.version)
        again_s = READY_AGAIN_S if state.welcomed else HELLO_AGAIN_S
        return replace(state, welcomed=False, repeat_due_s=event.now_s + again_s), (events.Send(hello),)
    if state.phase is Phase.OFFERING:
        return replace(state, repeat_due_s=event.now_s + OFFER_AGAIN_S), _repeat(state)
    return replace(state, repeat_due_s=event.now_s + READY_AGAIN_S), _repeat(state)


def _welcome(state: State, event: m.Welcome) -> Step:
    known = state.welcome
    state = replace(state, welcomed=True, welcome=event)
    if known is not None and _start_of(known) != _start_of(event):
        state = replace(state, phase=Phase.FETCHING, version=0, ready=None, work=None, offer=None, outdated=False)
        return state, (events.StopJob(), events.Join(event, fresh=True), events.FetchPack(event.pack))
    join = events.Join(event, fresh=False)
    if state.phase is Phase.JOINING:
        return replace(state, phase=Phase.FETCHING), (join, events.FetchPack(event.pack))
    return state, (join, *_repeat(state))


def _start_of(welcome: m.Welcome) -> tuple[object, ...]:
    """The terms that fix what a model state means; the settings of training may change between rounds."""
    return welcome.fleet, welcome.run, welcome.seed, welcome.slots, welcome.classes, welcome.pack


def _repeat(state: State) -> tuple[events.Action, ...]:
    """What the present phase has to say to a coordinator that may know nothing of it."""
    messages = (state.ready, state.offer if state.phase is Phase.OFFERING else None)
    return tuple(events.Send(message) for message in messages if message is not None)


def _pack_ready(state: State, event: events.PackReady) -> Step:
    if state.phase is not Phase.FETCHING:
        return state, ()
    welcome = _required(state.welcome)
    return _begin(replace(state, phase=Phase.MEASURING, pack=welcome.pack.sha256))


def _reconfigured(state: State, event: events.Reconfigured) -> Step:
    """A round at hand ends as it began."""
    if state.phase is Phase.MEASURING:
        state, again = _begin(state)
        return state, (events.StopJob(), *again)
    return replace(state, outdated=state.ready is not None), ()


def _measured(state: State, event: events.Measured) -> Step:
    if state.phase is not Phase.MEASURING:
        return state, ()
    pack = _required(state.welcome).pack.sha256
    ready = m.Ready(pack, event.examples, event.holdout, event.longest_tokens, state.version, event.capability)
    phase = Phase.IDLE if state.offer is None else Phase.OFFERING
    state = replace(state, phase=phase, ready=ready)
    return state, _repeat(state)


def _work(state: State, work: m.Plan | m.Final) -> Step:
    """Turns to `work`, but not before it is known what became of the update at hand: it may have been counted."""
    if state.phase is Phase.OFFERING:
        return state, (events.Send(_required(state.offer)),)
    if state.phase is Phase.TRAINING and _is_still_taken(state.work, work):
        return state, ()
    return _catch_up(state, work)


def _is_still_taken(training: m.Plan | m.Final | None, other: m.Plan | m.Final) -> bool:
    """Whether the update of the round that trains is of use while the round of `other` is open."""
    if not isinstance(training, m.Plan) or not isinstance(other, m.Plan):
        return False
    return 0 < other.round - training.round <= training.late_rounds


def _catch_up(state: State, work: m.Plan | m.Final) -> Step:
    """Turns to `work`, from whatever is at hand, unless that is the same, or newer: messages may be late."""
    working = state.phase in _WORKING or _measures_again(state)
    if not working and state.phase is not Phase.IDLE:
        return state, ()
    if (working and state.work == work) or work.version < _reached(state):
        return state, ()
    stop = (events.StopJob(),) if working else ()
    state = replace(state, phase=Phase.CATCHING_UP, work=work, offer=None)
    return state, (*stop, events.Fetch(work.deltas))


def _reached(state: State) -> int:
    """The version that the agent holds, or is about to."""
    return state.version if state.work is None else max(state.version, state.work.version)


def _fetched(state: State, event: events.Fetched) -> Step:
    if state.phase is not Phase.CATCHING_UP:
        return state, ()
    return _begin(replace(state, phase=Phase.FINISHING if isinstance(state.work, m.Final) else Phase.TRAINING))


def _begin(state: State, restarts: int = 0) -> Step:
    """Starts the job of the present phase."""
    state = replace(state, restarts=restarts)
    if state.phase is Phase.MEASURING:
        return state, (events.Measure(_required(state.welcome)),)
    if isinstance(state.work, m.Final):
        return state, (events.KeepFinal(state.work),)
    return state, (events.Train(_required(state.work)),)


def _fetch_failed(state: State, event: events.FetchFailed) -> Step:
    if state.phase is Phase.FETCHING:
        return replace(state, phase=Phase.JOINING, welcomed=False), ()
    if state.phase is not Phase.CATCHING_UP:
        return state, ()
    return replace(state, phase=Phase.IDLE, work=None, welcomed=False), ()


def _trained(state: State, event: events.Trained) -> Step:
    if state.phase is not Phase.TRAINING or state.work is None:
        return state, ()
    state = _at_version(replace(state, phase=Phase.OFFERING, offer=event.offer), state.work.version)
    return state, (events.Send(event.offer),)


def _at_version(state: State, version: int) -> State:
    ready = None if state.ready is None else msgspec.structs.replace(state.ready, version=version)
    return replace(state, version=version, ready=ready)


def _job_failed(state: State, event: events.JobFailed) -> Step:
    if event.killed and state.phase in JOBS and state.restarts < MOST_RESTARTS:
        return _begin(state, state.restarts + 1)
    reason = (event.told or event.reason)[: m.REASON_CHARACTERS]
    if _measures_again(state):  # the next round says the same, if it is the same still
        return replace(state, phase=Phase.IDLE), ()
    if state.phase is Phase.MEASURING:
        declined = m.Declined(0, reason, event.smallest_budget_bytes)
        return replace(state, phase=Phase.DONE), (events.Send(declined), events.Exit(event.reason))
    if state.phase not in (Phase.TRAINING, Phase.FINISHING) or state.work is None:
        return state, ()
    number = state.work.round if isinstance(state.work, m.Plan) else state.work.version
    declined = m.Declined(number, reason, event.smallest_budget_bytes)
    return replace(state, phase=Phase.IDLE, work=None), (events.Send(declined),)


def _data_changed(state: State, event: events.DataChanged) -> Step:
    if state.phase is not Phase.IDLE or state.ready is None:
        return state, ()
    return _begin(replace(state, phase=Phase.MEASURING))


def _measures_again(state: State) -> bool:
    """Whether the device is one that was ready before."""
    return state.phase is Phase.MEASURING and state.ready is not None


def _acknowledged(state: State, event: m.Acknowledged) -> Step:
    offer = state.offer
    if state.phase is not Phase.OFFERING or offer is None or offer.update.sha256 != event.sha256:
        return state, ()
    return replace(state, phase=Phase.IDLE, work=None, offer=None), (events.Settle(offer.round),)


def _rejected(state: State, event: m.Rejected) -> Step:
    if event.final:
        failure = f"the coordinator refused: {event.reason}"
        return replace(state, phase=Phase.DONE), (events.StopJob(), events.Exit(failure))
    offer = state.offer
    if state.phase is not Phase.OFFERING or offer is None or offer.round != event.round:
        return state, ()
    return replace(state, phase=Phase.IDLE, work=None, offer=None), (events.Discard(offer.round),)


def _final_kept(state: State, event: events.FinalKept) -> Step:
    if state.phase is not Phase.FINISHING:
        return state, ()
    state = _at_version(replace(state, phase=Phase.IDLE, work=None), event.finished.version)
    return state, (events.Send(event.finished),)


def _leave(state: State, event: m.Leave) -> Step:
    return replace(state, phase=Phase.DONE), (events.StopJob(), events.Exit(None))


def _required(value: T | None) -> T:
    if value is None:
        raise AssertionError("the phase implies that this is set")
    return value


_HANDLERS: dict[type, Callable[[State, Any], Step]] = {
    events.Connected: _connected,
    events.Disconnected: _disconnected,
    events.Tick: _tick,
    events.PackReady: _pack_ready,
    events.Measured: _measured,
    events.Fetched: _fetched,
    events.FetchFailed: _fetch_failed,
    events.Trained: _trained,
    events.FinalKept: _final_kept,
    events.JobFailed: _job_failed,
    events.DataChanged: _data_changed,
    events.Reconfigured: _reconfigured,
    m.Welcome: _welcome,
    m.Plan: _work,
    m.Acknowledged: _acknowledged,
    m.Rejected: _rejected,
    m.Final: _work,
    m.Leave: _leave,
}
