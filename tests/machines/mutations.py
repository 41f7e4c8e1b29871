"""Bugs to plant in the machines and their shells: each breaks a promise, and the tests here must notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from coordinator import round as rounds
from coordinator.closing import Closer
from coordinator.reception import Reception
from coordinator.store import Contribution, Store
from edge_agent import session
from edge_agent import session_events as ev
from edge_agent.wire import codec
from edge_agent.wire import messages as m


@contextmanager
def acknowledged_before_it_is_stored() -> Iterator[None]:
    keep, acknowledge = Store.keep_contribution, Reception._acknowledge
    later: list[tuple[Store, int, Contribution]] = []

    def put_off(store: Store, number: int, row: Contribution) -> None:
        later.append((store, number, row))

    def first(reception: Reception, state: rounds.State, device: str, offer: m.Offer) -> rounds.Event:
        event = acknowledge(reception, state, device, offer)
        while later:
            keep(*later.pop())
        return event

    with mock.patch.object(Store, "keep_contribution", put_off), mock.patch.object(Reception, "_acknowledge", first):
        yield


def one_update_counted_twice() -> AbstractContextManager[Any]:
    updates = Closer._updates

    def twice(closer: Closer, action: rounds.Close) -> Iterator[codec.Update]:
        first, *others = updates(closer, action)
        yield from (first, first, *others)

    return mock.patch.object(Closer, "_updates", twice)


def a_restart_forgets_what_is_stored() -> AbstractContextManager[Any]:
    reopen = rounds.reopen

    def forgetful(state: rounds.State, cohort: dict[str, rounds.Part], now_s: float) -> rounds.State:
        return reopen(state, dict.fromkeys(cohort, rounds.Part.PENDING), now_s)

    return mock.patch.object(rounds, "reopen", forgetful)


def an_update_of_another_round_taken() -> AbstractContextManager[Any]:
    def whatever(state: rounds.State, event: rounds.Stored | rounds.Declined) -> bool:
        return state.phase is rounds.Phase.OPEN and event.device in state.parts

    return mock.patch.object(rounds, "_takes_part", whatever)


def nobody_asked_again() -> AbstractContextManager[Any]:
    return mock.patch.object(rounds, "_ask_again", lambda state, devices: (state, ()))


def outbox_dropped_at_a_reconnection() -> AbstractContextManager[Any]:
    connected = session._connected

    def dropping(state: session.State, event: ev.Connected) -> session.Step:
        after, actions = connected(state, event)
        if after.offer is None or after.phase is not session.Phase.OFFERING:
            return after, actions
        after = replace(after, phase=session.Phase.IDLE, work=None, offer=None)
        return after, (*actions, ev.Settle(state.offer.round))  # type: ignore[union-attr]

    return mock.patch.dict(session._HANDLERS, {ev.Connected: dropping})
