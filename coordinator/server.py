"""The coordinator's loop: messages and time in, the round machine's actions out.

What a device says is checked here and becomes an event of the round machine (`round`); its actions become plans,
checkpoints and farewells. All that must survive is in the store before anyone is told of it.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from coordinator import events, fleet_model, pause
from coordinator import round as rounds
from coordinator.closing import Closer
from coordinator.config import CoordinatorConfig
from coordinator.desk import Desk
from coordinator.entrance import Entrance
from coordinator.farewell import LEAVE, Farewell
from coordinator.intake import Intake
from coordinator.levels import Levels
from coordinator.objectives import Facts
from coordinator.plans import Planner
from coordinator.reception import Reception
from coordinator.records import measured_accuracies, signs_of
from coordinator.revoked import revoked_devices
from coordinator.rows import drop_damaged, plan_of
from coordinator.silence import Silence
from coordinator.store import Store
from edge_agent.wire import crash_points, link, topics
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import BudgetError, LinkError, ProtocolError, StoreError, WireError

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
        revoked = revoked_devices(config.revoked_file, clock)
        self._reception = Reception(store, desk, planner, self._intake, watch, clock, revoked=revoked)
        self._closer = Closer(config, store, planner)
        self._entrance = Entrance(config.guard.messages_per_s, desk, watch, clock, revoked=revoked)
        self._silence = Silence(config.round.silence_s)
        self._farewell = Farewell(config.round, store, desk, planner, watch, revoked=revoked)
        self._model = _load_model(config, store, planner)
        self._pause = pause.Watcher(store)
        self._round = self._resume()
        self._repeat_s = 0.0
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
        for expelled in self._reception.expelled(self._round):
            self._feed(expelled)
        for word in self._pause.look(self._round, self._clock()):
            self._feed(word)
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
        state = replace(state, paused=pause.said(self._store).paused)
        plans = self._store.plans(state.round + 1)
        if not plans:
            return state
        stored = self._store.contributors(state.round + 1)
        parts = dict.fromkeys(plans, rounds.Part.PENDING) | dict.fromkeys(stored, rounds.Part.STORED)
        return rounds.reopen(state, parts, now_s)

    # What the link says

    def _on_link(self, event: link.Event) -> None:
        if isinstance(event, link.Connected):
            broker = self._config.broker
            self._silence.listening(self._clock())
            self._watch(events.Listening(broker.host, broker.port, self._config.fleet))
            for device in self._desk.roster:
                if not event.session_present:  # else the broker still has what was on its way
                    self._intake.interrupted(device.name)
                self._greet(device.name)
        elif isinstance(event, link.Disconnected):
            if event.fatal:
                raise LinkError(event.reason)
            LOGGER.warning("no connection to the broker: %s", event.reason)
            self._silence.deaf()
        else:
            sender = topics.device_of(event.topic)
            if self._entrance.admits(sender):
                self._on_payload(sender, event.payload)

    def _on_payload(self, device: str, payload: bytes) -> None:
        """Only what is wrong with the message itself is the device's doing: its event is fed afterwards."""
        try:
            message = self._desk.receive(device, payload)
            self._silence.heard(device, self._clock())
            crash_points.reach(_HEARD.get(type(message)))
            event = None if message is None else _HANDLERS[type(message)](self, device, message)
        except WireError as error:
            self._watch(events.Refused(device, str(error)))
            self._desk.reject(device, error)
            return
        if event is not None:
            self._feed(event)

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
        self._watch(events.training(device, message))

    def _on_declined(self, device: str, message: m.Declined) -> rounds.Declined:
        self._desk.change(device, note=message.reason)
        self._watch(events.Refused(device, message.reason, message.smallest_budget_bytes))
        self._intake.drop(device)
        self._farewell.decline(device)
        if self._is_awaited(device) and message.round == self._round.round:
            self._send_model(device)
        return rounds.Declined(device, message.round, self._clock())

    def _on_offer(self, device: str, message: m.Offer) -> rounds.Event | None:
        if message.round == self._round.round and self._is_awaited(device) and self._kept_plan(device) is None:
            return None  # the device answers the new plan with the same offer
        event = self._reception.offered(self._round, device, message)
        self._plan_again(device, message.round)
        return event

    def _on_chunk(self, device: str, message: m.Chunk) -> rounds.Event | None:
        number = self._intake.origin(device)
        event = self._reception.came(self._round, device, message)
        if isinstance(event, rounds.Stored | rounds.StoredLate):
            self._last_update_s[device] = self._clock()
        elif number is not None:
            self._plan_again(device, number)
        return event

    def _plan_again(self, device: str, number: int) -> None:
        """A device that heard what became of its update for round `number` need not wait for a later one's plan."""
        if number < self._round.round and self._is_awaited(device) and self._intake.origin(device) is None:
            plan = self._kept_plan(device)
            if plan is not None:
                self._desk.send(device, plan)

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
            self._desk.came_to(device, message.version)
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
            self._send_model(device)
            yield rounds.Declined(device, number, self._clock())
            return
        self._store.keep_plan(number, device, msgspec.msgpack.encode(plan))
        crash_points.reach(Point.COORDINATOR_PLAN_KEPT)
        self._desk.send(device, plan)
        crash_points.reach(Point.COORDINATOR_PLAN_SENT)

    def _send_model(self, device: str) -> None:
        """A device that does not train predicts with the fleet's model nevertheless."""
        ready = self._desk.roster[device].ready
        if ready is not None and ready.version < self._model.state.version:
            self._desk.send(device, self._planner.final(self._model, ready.version))

    def _close(self, action: rounds.Close) -> Iterator[rounds.Event]:
        crash_points.reach(Point.COORDINATOR_CLOSING)
        damaged = drop_damaged(self._store, action.round)
        if damaged:
            for device, reason in damaged.items():
                self._desk.change(device, note=reason)
                self._watch(events.Refused(device, reason))
            yield rounds.Spoiled(tuple(damaged), action.round, self._clock())
            return
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

    def _miss(self, now_s: float) -> None:
        """Who has fallen silent is as good as offline."""
        reason = f"nothing was heard of it for {self._config.round.silence_s:g} s"
        for device in self._silence.silent(self._round.ready, now_s):
            self._feed(self._on_offline(device, m.Offline(reason)))

    def _repeat(self, now_s: float) -> None:
        """Says again what has not been answered."""
        self._miss(now_s)
        self._farewell.repeat(self._round.ready, now_s)
        if self._round.phase is not rounds.Phase.OPEN:
            return
        for device, part in self._round.parts.items():
            if part is rounds.Part.PENDING and self._is_online(device):
                plan = self._kept_plan(device)
                if plan is not None:
                    self._desk.send(device, plan)

    def _kept_plan(self, device: str) -> m.Plan | None:
        """A device's plan for the open round; None where it is damaged, and then made and sent again if it can be."""
        number = self._round.round
        body = self._store.plan(number, device)
        if body is None:
            return None
        try:
            return plan_of(self._store, number, device, body)
        except StoreError as error:
            LOGGER.warning("%s", error)
        for event in self._send_plan(device, number) if device in self._round.ready else ():
            self._feed(event)
        return None


def _load_model(config: CoordinatorConfig, store: Store, planner: Planner) -> fleet_model.FleetModel:
    checkpoint = store.checkpoint()
    if checkpoint is None:
        return fleet_model.start(planner.layout, config.seed)
    return replace(fleet_model.from_checkpoint(checkpoint, planner.layout), signs=signs_of(store))


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
