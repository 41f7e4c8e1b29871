"""The coordinator's loop: messages and time in, the round machine's actions out.

What a device says is checked here, becomes an event of the round machine (`round`), and its actions become plans,
checkpoints and farewells. All that must survive is in the store before anyone is told of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from coordinator import events, fleet_model
from coordinator import round as rounds
from coordinator.config import CoordinatorConfig
from coordinator.desk import Desk
from coordinator.plans import Planner
from coordinator.records import make_record
from coordinator.store import Contribution, Store
from edge_agent.wire import codec, link
from edge_agent.wire import messages as m
from edge_agent.wire.errors import BudgetError, LinkError, PayloadError, WireError
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import unpack_mask

LOGGER = logging.getLogger("rankfleet.coordinator")
POLL_S = 0.05
REPEAT_S = 10.0
FAREWELL_S = 60.0
LEAVE_S = 10.0
_LEAVE = m.Leave("the run is over")


class Coordinator:
    """One run of one fleet. `run` returns when every round is closed and the devices hold the final model."""

    def __init__(
        self,
        config: CoordinatorConfig,
        store: Store,
        desk: Desk,
        planner: Planner,
        wire: link.Link,
        watch: events.Watch,
    ) -> None:
        self._config = config
        self._store = store
        self._desk = desk
        self._planner = planner
        self._link = wire
        self._watch = watch
        self._layout = planner.layout
        self._model = _load_model(config, store, planner)
        self._round = self._resume()
        self._offers: dict[str, m.Offer] = {}
        self._finished = _load_finished(store, self._model.state.version)
        self._finish_s: float | None = None
        self._repeat_s = 0.0
        self._left_s: float | None = None

    def run(self) -> tuple[str, ...]:
        """Serves until the run is over; returns the devices that did not confirm the final model.

        Raises:
            LinkError: the broker refuses for good.
            StoreError: the disk is full or the database damaged; a restart goes on from the last checkpoint.
        """
        while not self._over():
            event = self._link.receive(POLL_S)
            if event is not None:
                self._on_link(event)
            now_s = time.monotonic()
            self._desk.poll(now_s)
            self._feed(rounds.Tick(now_s))
            self._repeat(now_s)
        self._watch(events.Done(self._round.round, self._missing()))
        return self._missing()

    def _over(self) -> bool:
        """Whether the dismissed devices have gone: an embedded broker ends with us, and with it what it still holds."""
        if self._left_s is None:
            return False
        late = time.monotonic() - self._left_s >= LEAVE_S
        return late or not any(device.online for device in self._desk.roster)

    def _resume(self) -> rounds.State:
        """The round machine where the store left it: between rounds, or in an open one with its stored updates."""
        now_s = time.monotonic()
        state = rounds.begin(self._config.round, self._model.state.version, now_s)
        plans = self._store.plans(state.round + 1)
        if not plans:
            return state
        stored = self._store.contributors(state.round + 1)
        parts = {name: rounds.Part.STORED if name in stored else rounds.Part.PENDING for name in plans}
        return rounds.reopen(state, parts, now_s)

    def _on_link(self, event: link.Event) -> None:
        if isinstance(event, link.Connected):
            broker = self._config.broker
            self._watch(events.Listening(broker.host, broker.port, self._config.fleet))
            for device in self._desk.roster:
                self._desk.send(device.name, self._planner.welcome)
        elif isinstance(event, link.Disconnected):
            if event.fatal:
                raise LinkError(event.reason)
            LOGGER.warning("no connection to the broker: %s", event.reason)
        else:
            self._on_payload(event)

    def _on_payload(self, event: link.Received) -> None:
        device = event.topic.split("/")[2]
        try:
            device, message = self._desk.receive(event)
            if message is not None:
                _HANDLERS[type(message)](self, device, message)
        except WireError as error:
            self._watch(events.Refused(device, str(error)))
            self._desk.reject(device, error)

    def _on_hello(self, device: str, message: m.Hello) -> None:
        self._desk.change(device, online=True)
        self._desk.send(device, self._planner.welcome if self._left_s is None else _LEAVE)

    def _on_ready(self, device: str, message: m.Ready) -> None:
        if message.pack != self._planner.welcome.pack.sha256:
            self._desk.send(device, self._planner.welcome)
            return
        if message.version > self._model.state.version:
            raise PayloadError(
                f"{device} holds version {message.version}, the fleet is at {self._model.state.version}: "
                "the coordinator's run folder was replaced; delete the agent's state folder"
            )
        known = self._desk.roster[device]
        if not known.online or known.ready is None:
            self._watch(events.Joined(device, message.examples, message.capability.budget_bytes))
        if not known.online or known.ready != message:
            self._desk.change(device, online=True, ready=message, note="")
            self._feed(rounds.Ready(device, time.monotonic()))
        elif device not in self._round.ready:
            self._feed(rounds.Ready(device, time.monotonic()))

    def _on_progress(self, device: str, message: m.Progress) -> None:
        p = message
        self._watch(events.Training(device, p.round, p.phase, p.step, p.steps, p.loss))

    def _on_declined(self, device: str, message: m.Declined) -> None:
        self._desk.change(device, note=message.reason)
        self._watch(events.Refused(device, message.reason, message.smallest_budget_bytes))
        self._feed(rounds.Declined(device, message.round, time.monotonic()))

    def _on_offer(self, device: str, message: m.Offer) -> None:
        stored = self._store.contributors(message.round).get(device)
        if stored is not None and stored[0] == message.update.sha256:
            self._desk.send(device, m.Acknowledged(message.round, message.update.sha256))
            return
        if self._round.phase is not rounds.Phase.OPEN or message.round != self._round.round:
            self._desk.send(device, m.Rejected(message.round, f"round {message.round} is not open", False))
            return
        if stored is not None or self._round.parts.get(device) is not rounds.Part.PENDING:
            self._desk.send(device, m.Rejected(message.round, "this round has no place for another update", False))
            return
        self._offers[device] = message
        self._desk.pull(device, message.update, codec.update_limit_bytes(self._layout))

    def _on_chunk(self, device: str, message: m.Chunk) -> None:
        complete = self._desk.take(device, message, time.monotonic())
        if complete is not None:
            self._accept(device, *complete)

    def _accept(self, device: str, ref: m.ObjectRef, body: bytes) -> None:
        """Checks a whole update, keeps it, and only then acknowledges it."""
        offer = self._offers.pop(device)
        try:
            self._check(device, offer, body)
        except PayloadError as error:
            self._watch(events.Refused(device, str(error)))
            self._desk.reject(device, error, offer.round)
            self._feed(rounds.Declined(device, offer.round, time.monotonic()))
            return
        report = msgspec.msgpack.encode(offer.report)
        self._store.keep_contribution(offer.round, Contribution(device, ref.sha256, report, body))
        self._desk.change(device, ready=_at_version(self._desk.roster[device].ready, self._model.state.version))
        self._desk.send(device, m.Acknowledged(offer.round, ref.sha256))
        self._watch(events.Received(device, offer.round, offer.report))
        self._feed(rounds.Stored(device, offer.round, time.monotonic()))

    def _check(self, device: str, offer: m.Offer, body: bytes) -> None:
        plan = msgspec.msgpack.decode(self._store.plans(offer.round)[device], type=m.Plan)
        allowed = unpack_mask(plan.trained, self._layout) & self._model.state.mask
        limit = codec.update_limit_bytes(self._layout)
        update = codec.decode_update(body, self._layout, limit_bytes=limit, allowed=allowed)
        found = (update.round, update.version, update.examples)
        expected = (offer.round, plan.version, offer.report.examples)
        if found != expected:
            raise PayloadError(f"an update of round, version and examples {expected} was due, got {found}")

    def _on_offline(self, device: str, message: m.Offline) -> None:
        if self._desk.roster[device].online:
            self._desk.change(device, online=False, note=message.reason)
            if self._left_s is None:
                self._watch(events.Left(device, message.reason))
        self._feed(rounds.Lost(device, time.monotonic()))

    def _on_finished(self, device: str, message: m.Finished) -> None:
        if message.version != self._model.state.version or self._round.phase is not rounds.Phase.FINISHED:
            return
        if device not in self._finished:
            self._finished[device] = message
            self._store.put(finished=msgspec.msgpack.encode(self._finished))
            self._watch(events.Finished(device, message))
        self._say_goodbye()

    def _on_missing(self, device: str, message: m.Missing) -> None:
        """The device lost its update, as when it trained the round anew: its next offer starts over."""
        self._desk.drop_pull(device)

    def _feed(self, event: rounds.Event) -> None:
        self._round, actions = rounds.advance(self._round, event)
        for action in actions:
            _ACTIONS[type(action)](self, action)

    def _open(self, action: rounds.Open) -> None:
        alive = int(self._model.state.mask.sum())
        self._watch(events.Opened(action.round, self._config.round.rounds, action.cohort, alive))
        self._offers.clear()
        for device in action.cohort:
            self._send_plan(device, action.round)

    def _replan(self, action: rounds.Replan) -> None:
        self._send_plan(action.device, action.round)

    def _send_plan(self, device: str, number: int) -> None:
        known = self._desk.roster[device]
        if known.ready is None:
            return
        try:
            plan = self._planner.plan(self._model, known.ready, number)
        except BudgetError as error:
            self._desk.change(device, note=str(error))
            self._watch(events.Refused(device, str(error), error.smallest_budget_bytes))
            self._feed(rounds.Declined(device, number, time.monotonic()))
            return
        self._store.keep_plan(number, device, msgspec.msgpack.encode(plan))
        self._desk.send(device, plan)

    def _close(self, action: rounds.Close) -> None:
        budget = self._planner.budget_ranks(action.round)
        scheme = find_scheme(self._config.training.quantisation)
        closing = fleet_model.close_round(
            self._model, self._updates(action), budget, self._config.ranks.threshold, scheme
        )
        opened_s = self._round.since_s
        record = make_record(self._store, action, closing, budget, time.monotonic() - opened_s)
        checkpoint = fleet_model.to_checkpoint(closing.model)
        self._store.close_round(action.round, checkpoint, closing.delta, msgspec.json.encode(record))
        self._model = closing.model
        self._desk.drop_pulls()
        self._watch(events.Closed(record))
        self._feed(rounds.Closed(time.monotonic()))

    def _updates(self, action: rounds.Close) -> Iterator[codec.Update]:
        limit = codec.update_limit_bytes(self._layout)
        for device in action.contributors:
            body = self._store.contribution_body(action.round, device)
            yield codec.decode_update(body, self._layout, limit_bytes=limit)

    def _wait(self, action: rounds.Waiting) -> None:
        self._watch(events.Waiting(action.reason))

    def _finish(self, action: rounds.Finish) -> None:
        self._finish_s = time.monotonic()
        self._send_finals()
        self._say_goodbye()

    def _send_finals(self) -> None:
        for device in self._desk.roster:
            if device.ready is not None and device.online and device.name not in self._finished:
                self._desk.send(device.name, self._planner.final(self._model, device.version))

    def _repeat(self, now_s: float) -> None:
        """Says again what has not been answered, and ends the run when waiting longer is of no use."""
        if now_s < self._repeat_s:
            return
        self._repeat_s = now_s + REPEAT_S
        if self._finish_s is not None:
            self._send_finals()
            if now_s - self._finish_s >= FAREWELL_S:
                self._leave()
        elif self._round.phase is rounds.Phase.OPEN:
            for device, body in self._store.plans(self._round.round).items():
                if self._round.parts.get(device) is rounds.Part.PENDING and self._desk.roster[device].online:
                    self._desk.send(device, msgspec.msgpack.decode(body, type=m.Plan))

    def _say_goodbye(self) -> None:
        if not self._missing():
            self._leave()

    def _missing(self) -> tuple[str, ...]:
        return tuple(d.name for d in self._desk.roster if d.ready is not None and d.name not in self._finished)

    def _leave(self) -> None:
        for device in self._desk.roster:
            self._desk.send(device.name, _LEAVE)
        self._left_s = self._left_s or time.monotonic()


def _load_model(config: CoordinatorConfig, store: Store, planner: Planner) -> fleet_model.FleetModel:
    checkpoint = store.checkpoint()
    if checkpoint is None:
        return fleet_model.start(planner.layout, config.seed)
    return fleet_model.from_checkpoint(checkpoint, planner.layout)


def _load_finished(store: Store, version: int) -> dict[str, m.Finished]:
    """Devices that confirmed the final model, if `version` is it, to a coordinator that ran before."""
    known = store.get("finished")
    finished = {} if known is None else msgspec.msgpack.decode(known, type=dict[str, m.Finished])
    return {device: message for device, message in finished.items() if message.version == version}


def _at_version(ready: m.Ready | None, version: int) -> m.Ready | None:
    return None if ready is None else msgspec.structs.replace(ready, version=version)


_HANDLERS: dict[type, Callable[[Coordinator, str, Any], None]] = {
    m.Hello: Coordinator._on_hello,
    m.Ready: Coordinator._on_ready,
    m.Progress: Coordinator._on_progress,
    m.Declined: Coordinator._on_declined,
    m.Offer: Coordinator._on_offer,
    m.Chunk: Coordinator._on_chunk,
    m.Missing: Coordinator._on_missing,
    m.Finished: Coordinator._on_finished,
    m.Offline: Coordinator._on_offline,
}

_ACTIONS: dict[type, Callable[[Coordinator, Any], None]] = {
    rounds.Open: Coordinator._open,
    rounds.Replan: Coordinator._replan,
    rounds.Close: Coordinator._close,
    rounds.Waiting: Coordinator._wait,
    rounds.Finish: Coordinator._finish,
}
