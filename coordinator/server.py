"""The coordinator's loop: messages and time in, the round machine's actions out.

What a device says is checked here and becomes an event of the round machine (`round`); its actions become plans,
checkpoints and farewells. All that must survive is in the store before anyone is told of it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from coordinator import events, fleet_model
from coordinator import round as rounds
from coordinator.closing import Closer
from coordinator.config import CoordinatorConfig
from coordinator.desk import Desk
from coordinator.farewell import LEAVE, Farewell
from coordinator.guard import Bucket, take
from coordinator.intake import Intake
from coordinator.levels import Levels
from coordinator.objectives import Facts
from coordinator.plans import Planner
from coordinator.records import measured_accuracies, signs_of
from coordinator.store import Store
from edge_agent.wire import crash_points, link, topics
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import BudgetError, LinkError, PayloadError, ProtocolError, WireError

LOGGER = logging.getLogger("rankfleet.coordinator")
POLL_S = 0.05
REPEAT_S = 10.0


class Coordinator:
    """One run of one fleet. `run` returns when every round is closed and the devices hold the final model.

    `clock` gives monotonic seconds: a soak has its own, in which deadlines take no time.
    """

    def __init__(  # noqa: PLR0913 (the parts that a coordinator is put together from)
        self,
        config: CoordinatorConfig,
        store: Store,
        desk: Desk,
        planner: Planner,
        wire: link.Link,
        watch: events.Watch,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._config = config
        self._store = store
        self._desk = desk
        self._planner = planner
        self._link = wire
        self._watch = watch
        self._intake = Intake(store, planner.layout, config.guard)
        self._closer = Closer(config, store, planner)
        self._farewell = Farewell(config.round, store, desk, planner, watch)
        self._model = _load_model(config, store, planner)
        self._round = self._resume()
        self._repeat_s = 0.0
        self._buckets: dict[str, Bucket] = {}
        self._levels = Levels(config.objectives, store, watch, self._publish_event)
        self._last_update_s: dict[str, float] = {}
        self._accuracy = measured_accuracies(store).get(self._model.state.version - 1)

    def run(self) -> tuple[str, ...]:
        """Serves until the run is over; returns the devices that did not confirm the final model.

        Raises:
            LinkError: the broker refuses for good.
            StoreError: the disk is full or the database damaged; a restart goes on from the last checkpoint.
        """
        try:
            while not self._farewell.over(self._clock()):
                self._turn()
        finally:
            self._levels.close()
        missing = self._farewell.missing()
        self._watch(events.Done(self._round.round, missing))
        return missing

    def _turn(self) -> None:
        """One turn of the loop: what the link and the clock have to say."""
        event = self._link.receive(POLL_S)
        if event is not None:
            self._on_link(event)
        now_s = self._clock()
        for device, want in self._intake.wants(self._desk.chunk_bytes, now_s, self._is_online):
            self._desk.send(device, want)
        self._feed(rounds.Tick(now_s))
        if now_s >= self._repeat_s:
            self._repeat_s = now_s + REPEAT_S
            self._repeat(now_s)
        if not self._farewell.begun:
            self._levels.look(lambda: self._facts(now_s), now_s)

    def _facts(self, now_s: float) -> Facts:
        """What service levels are judged by."""
        state = self._round
        return Facts(
            round_open_s=now_s - state.since_s if state.phase is rounds.Phase.OPEN else None,
            devices_online=len(state.ready),
            accuracy=self._accuracy,
            update_age_s=max((now_s - at_s for at_s in self._last_update_s.values()), default=None),
        )

    def _publish_event(self, body: bytes) -> None:
        self._link.publish(topics.events(self._config.fleet), body)

    def _resume(self) -> rounds.State:
        """The round machine where the store left it: between rounds, or in an open one with its stored updates."""
        now_s = self._clock()
        state = rounds.begin(self._config.round, self._model.state.version, now_s, self._config.seed)
        plans = self._store.plans(state.round + 1)
        if not plans:
            return state
        stored = self._store.contributors(state.round + 1)
        parts = {name: rounds.Part.STORED if name in stored else rounds.Part.PENDING for name in plans}
        return rounds.reopen(state, parts, now_s)

    # What the link says

    def _on_link(self, event: link.Event) -> None:
        if isinstance(event, link.Connected):
            broker = self._config.broker
            self._watch(events.Listening(broker.host, broker.port, self._config.fleet))
            for device in self._desk.roster:
                if not event.session_present:  # else the broker still has what was on its way
                    self._intake.interrupted(device.name)
                self._greet(device.name)
        elif isinstance(event, link.Disconnected):
            if event.fatal:
                raise LinkError(event.reason)
            LOGGER.warning("no connection to the broker: %s", event.reason)
        else:
            self._on_payload(topics.device_of(event.topic), event.payload)

    def _on_payload(self, device: str, payload: bytes) -> None:
        """Only what is wrong with the message itself is the device's doing: its event is fed afterwards."""
        if not self._admits(device):
            return
        try:
            message = self._desk.receive(device, payload)
            crash_points.reach(_HEARD.get(type(message)))
            event = None if message is None else _HANDLERS[type(message)](self, device, message)
        except WireError as error:
            self._watch(events.Refused(device, str(error)))
            self._desk.reject(device, error)
            return
        if event is not None:
            self._feed(event)

    def _admits(self, device: str) -> bool:
        """Whether the device keeps to the limit; it is named when it begins not to."""
        before, rate = self._buckets.get(device), self._config.guard.messages_per_s
        self._buckets[device] = take(before, self._clock(), rate)
        if self._buckets[device].flooding and not (before and before.flooding):
            self._desk.change(device, note=f"sends more than guard.messages_per_s ({rate:g}): the surplus is dropped")
            self._watch(events.Flooding(device, rate))
        return not self._buckets[device].flooding

    def _greet(self, device: str) -> None:
        self._desk.send(device, LEAVE if self._farewell.dismissed else self._planner.welcome)

    # What a device says: each becomes an event of the round machine, or none

    def _on_hello(self, device: str, message: m.Hello) -> None:
        self._desk.change(device, online=True)
        self._intake.interrupted(device)
        self._greet(device)

    def _on_ready(self, device: str, message: m.Ready) -> rounds.Ready | None:
        if message.pack != self._planner.welcome.pack.sha256:
            self._greet(device)
            return None
        if message.version > self._model.state.version:
            raise ProtocolError(
                f"{device} holds version {message.version}, the fleet is at {self._model.state.version}: "
                "the coordinator's run folder was replaced; delete the agent's state folder"
            )
        came = device not in self._round.ready
        if not came and message == self._desk.roster[device].ready:
            return None
        if came:
            self._watch(events.Joined(device, message.examples, message.capability.budget_bytes))
            self._last_update_s.setdefault(device, self._clock())
        self._desk.change(device, online=True, ready=message, note="")
        return rounds.Ready(device, self._clock())

    def _on_progress(self, device: str, message: m.Progress) -> None:
        loss = message.loss if math.isfinite(message.loss) else None
        self._watch(events.Training(device, message.round, message.phase, message.step, message.steps, loss))

    def _on_declined(self, device: str, message: m.Declined) -> rounds.Declined:
        self._desk.change(device, note=message.reason)
        self._watch(events.Refused(device, message.reason, message.smallest_budget_bytes))
        self._intake.drop(device)
        self._farewell.decline(device)
        return rounds.Declined(device, message.round, self._clock())

    def _on_offer(self, device: str, message: m.Offer) -> rounds.Declined | None:
        stored = self._store.contributors(message.round).get(device)
        if stored is not None and stored[0] == message.update.sha256:
            self._desk.send(device, m.Acknowledged(message.round, message.update.sha256))
        elif self._round.phase is not rounds.Phase.OPEN or message.round != self._round.round:
            self._desk.send(device, m.Rejected(message.round, f"round {message.round} is not open", False))
        elif not self._is_awaited(device):
            self._desk.send(device, m.Rejected(message.round, "this round has no place for another update", False))
        else:
            return self._begin_pull(device, message)
        return None

    def _begin_pull(self, device: str, offer: m.Offer) -> rounds.Declined | None:
        try:
            self._intake.begin(device, offer)
        except PayloadError as error:
            return self._refuse_update(device, error)
        return None

    def _on_chunk(self, device: str, message: m.Chunk) -> rounds.Stored | rounds.Declined | None:
        if not self._is_awaited(device):
            self._intake.drop(device)
            return None
        try:
            offer = self._intake.take(device, message, self._clock())
        except PayloadError as error:
            return self._refuse_update(device, error)
        return None if offer is None else self._acknowledge(device, offer)

    def _acknowledge(self, device: str, offer: m.Offer) -> rounds.Stored:
        """The update is in the store. Its device has come to the version that it trained from."""
        self._desk.change(device, ready=_at_version(self._desk.roster[device].ready, self._model.state.version))
        self._desk.send(device, m.Acknowledged(offer.round, offer.update.sha256))
        crash_points.reach(Point.COORDINATOR_ACKNOWLEDGED)
        self._watch(events.Received(device, offer.round, offer.report))
        self._last_update_s[device] = self._clock()
        return rounds.Stored(device, offer.round, self._clock())

    def _refuse_update(self, device: str, error: PayloadError) -> rounds.Declined:
        """The round goes on without it."""
        number = self._round.round
        self._intake.drop(device)
        self._watch(events.Refused(device, str(error)))
        self._desk.reject(device, error, number)
        return rounds.Declined(device, number, self._clock())

    def _is_online(self, device: str) -> bool:
        return self._desk.roster[device].online

    def _is_awaited(self, device: str) -> bool:
        """Whether the open round has a place for an update of `device`."""
        return self._round.phase is rounds.Phase.OPEN and self._round.parts.get(device) is rounds.Part.PENDING

    def _on_offline(self, device: str, message: m.Offline) -> rounds.Lost:
        if self._desk.roster[device].online:
            self._desk.change(device, online=False, note=message.reason)
            if not self._farewell.dismissed:
                self._watch(events.Left(device, message.reason))
        return rounds.Lost(device, self._clock())

    def _on_finished(self, device: str, message: m.Finished) -> None:
        if message.version == self._model.state.version:
            self._desk.change(device, ready=_at_version(self._desk.roster[device].ready, message.version))
        self._farewell.confirm(device, message, self._clock())

    def _on_missing(self, device: str, message: m.Missing) -> None:
        """The device lost its update, as when it trained the round anew: its next offer starts over."""
        self._intake.drop(device)

    # What the round machine asks for: each action may give events in turn

    def _feed(self, event: rounds.Event) -> None:
        waiting = deque([event])
        while waiting:
            self._round, actions = rounds.advance(self._round, waiting.popleft())
            for action in actions:
                waiting.extend(_ACTIONS[type(action)](self, action))

    def _open(self, action: rounds.Open) -> Iterator[rounds.Event]:
        alive = int(self._model.state.mask.sum())
        work = self._planner.work(action.round)
        self._watch(events.Opened(action.round, self._config.round.rounds, action.cohort, alive, work))
        self._intake.clear()
        for device in action.cohort:
            yield from self._send_plan(device, action.round)

    def _replan(self, action: rounds.Replan) -> Iterator[rounds.Event]:
        yield from self._send_plan(action.device, action.round)

    def _send_plan(self, device: str, number: int) -> Iterator[rounds.Event]:
        ready = self._desk.roster[device].ready
        if ready is None:
            raise AssertionError(f"{device} cannot be in round {number}: it never was ready")
        try:
            plan = self._planner.plan(self._model, ready, number)
        except BudgetError as error:
            self._desk.change(device, note=str(error))
            self._watch(events.Refused(device, str(error), error.smallest_budget_bytes))
            self._desk.send(device, m.Rejected(number, str(error), False))
            yield rounds.Declined(device, number, self._clock())
            return
        self._store.keep_plan(number, device, msgspec.msgpack.encode(plan))
        crash_points.reach(Point.COORDINATOR_PLAN_KEPT)
        self._desk.send(device, plan)
        crash_points.reach(Point.COORDINATOR_PLAN_SENT)

    def _close(self, action: rounds.Close) -> Iterator[rounds.Event]:
        crash_points.reach(Point.COORDINATOR_CLOSING)
        wall_s = self._clock() - self._round.since_s
        self._model, record = self._closer.close(self._model, action, wall_s)
        crash_points.reach(Point.COORDINATOR_CLOSED)
        self._accuracy = record.accuracy
        self._intake.clear()
        self._watch(events.Closed(record))
        yield rounds.Closed(self._clock())

    def _wait(self, action: rounds.Waiting) -> tuple[rounds.Event, ...]:
        self._watch(events.Waiting(action.reason))
        return ()

    def _finish(self, action: rounds.Finish) -> tuple[rounds.Event, ...]:
        self._farewell.begin(self._model, self._clock())
        return ()

    def _repeat(self, now_s: float) -> None:
        """Says again what has not been answered."""
        self._farewell.repeat(self._round.ready, now_s)
        if self._round.phase is not rounds.Phase.OPEN:
            return
        for device, body in self._store.plans(self._round.round).items():
            if self._is_awaited(device) and self._desk.roster[device].online:
                self._desk.send(device, msgspec.msgpack.decode(body, type=m.Plan))


def _load_model(config: CoordinatorConfig, store: Store, planner: Planner) -> fleet_model.FleetModel:
    checkpoint = store.checkpoint()
    if checkpoint is None:
        return fleet_model.start(planner.layout, config.seed)
    return replace(fleet_model.from_checkpoint(checkpoint, planner.layout), signs=signs_of(store))


def _at_version(ready: m.Ready | None, version: int) -> m.Ready | None:
    return None if ready is None else msgspec.structs.replace(ready, version=version)


_HANDLERS: dict[type, Callable[[Coordinator, str, Any], rounds.Event | None]] = {
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

_HEARD: dict[type, Point] = {
    m.Hello: Point.COORDINATOR_HELLO_HEARD,
    m.Ready: Point.COORDINATOR_READY_HEARD,
    m.Offer: Point.COORDINATOR_OFFER_HEARD,
}

_ACTIONS: dict[type, Callable[[Coordinator, Any], Iterable[rounds.Event]]] = {
    rounds.Open: Coordinator._open,
    rounds.Replan: Coordinator._replan,
    rounds.Close: Coordinator._close,
    rounds.Waiting: Coordinator._wait,
    rounds.Finish: Coordinator._finish,
}
