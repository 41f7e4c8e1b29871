"""The two state machines without their shells, in any order of messages, deaths and time.

A step takes microseconds, so many more histories are seen than with the real shells (see `interleavings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from coordinator import round as rounds
from coordinator.config import RoundSettings
from edge_agent import session_events as ev
from edge_agent.wire import messages as m
from tests.machines.pure_shells import Device, Gateway

NAMES = ("a", "b", "c")
QUORUM = 2
DEADLINE_S, GRACE_S, GATHER_S = 100.0, 15.0, 30.0
MOST_S = 1500.0
"""Simulated time within which a fleet without faults ends its run: far less than it needs."""


class Histories(RuleBasedStateMachine):
    """Three devices, a coordinator, and a network in which everything may happen to a message."""

    @initialize(
        cohort=st.sampled_from([0, 0, 2]),
        late_rounds=st.sampled_from([0, 2]),
        joined=st.booleans(),
        leaving=st.permutations(NAMES),
    )
    def start(self, cohort: int, late_rounds: int, joined: bool, leaving: list[str]) -> None:
        self.leaving = leaving
        self.now_s, self.trainings = 0.0, 0
        self.network: list[tuple[bool, str, m.Message]] = []
        """Whether it goes up, from or to which device, and what."""
        settings = RoundSettings(
            rounds=3,
            expected=3,
            gather_s=GATHER_S,
            quorum=QUORUM,
            deadline_s=DEADLINE_S,
            grace_s=GRACE_S,
            cohort=cohort,
            late_rounds=late_rounds,
        )
        self.gateway = Gateway(settings)
        self.gateway.boot(self.now_s)
        self.devices = {name: Device(name) for name in NAMES}
        for device in self.devices.values():
            device.boot()
        if joined:
            self.run_for(2.0)

    def collect(self) -> None:
        for device in self.devices.values():
            self.network += [(True, device.name, message) for message in device.sent]
            device.sent = []
        self.network += [(False, name, message) for name, message in self.gateway.sent]
        self.gateway.sent = []

    def arrive(self, place: int, *, twice: bool = False) -> None:
        up, name, message = self.network[place] if twice else self.network.pop(place)
        device = self.devices[name]
        if up and self.gateway.state is not None:
            self.gateway.hear(name, message, self.now_s)
        elif not up and device.connected and device.state is not None:
            device.feed(message)
        self.collect()
        self.audit()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        if self.gateway.state is not None:
            self.gateway.tick(self.now_s)
        for device in self.devices.values():
            device.feed(ev.Tick(self.now_s))
        self.collect()
        self.audit()

    # Messages

    @precondition(lambda self: self.network)
    @rule(place=st.integers(0, 30), fate=st.sampled_from(["first", "any", "any", "twice", "lost"]))
    def deliver(self, place: int, fate: str) -> None:
        place %= len(self.network)
        if fate == "lost":
            self.network.pop(place)
        else:
            self.arrive(0 if fate == "first" else place, twice=fate == "twice")

    @rule(turns=st.integers(1, 6))
    def deliver_all(self, turns: int) -> None:
        self.run_for(0.5 * turns)

    @rule(
        turns=st.integers(1, 12),
        lost=st.sampled_from([0.2, 0.5, 0.9]),
        twice=st.booleans(),
        seed=st.integers(0, 999),
    )
    def deliver_badly(self, turns: int, lost: float, twice: bool, seed: int) -> None:
        """Some of what is sent comes, in any order, and some of it again later."""
        random = Random(seed)
        for _ in range(turns):
            random.shuffle(self.network)
            for _ in range(len(self.network)):
                if random.random() < lost:
                    self.network.pop()
                else:
                    self.arrive(len(self.network) - 1, twice=twice and random.random() < 0.3)
                if not self.network:
                    break
            self.pass_time(1.0)

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, GRACE_S, GATHER_S, DEADLINE_S]))
    def let_time_pass(self, seconds: float) -> None:
        self.pass_time(seconds)

    # Connections and deaths

    @rule(name=st.sampled_from(NAMES), forgets=st.booleans(), wills=st.booleans())
    def cut(self, name: str, forgets: bool, wills: bool) -> None:
        device = self.devices[name]
        if forgets:
            self.network = [one for one in self.network if one[1] != name]
        if device.connected and wills:
            self.network.append((True, name, m.Offline("the connection was lost")))
        device.connected = False
        device.feed(ev.Disconnected())

    @precondition(lambda self: not all(device.connected for device in self.devices.values()))
    @rule(name=st.sampled_from(NAMES))
    def reconnect(self, name: str) -> None:
        device = self.devices[name]
        if not device.connected:
            device.connected = True
            device.feed(ev.Connected())

    @rule(name=st.sampled_from(NAMES), forgets=st.booleans(), wills=st.booleans())
    def interrupt(self, name: str, forgets: bool, wills: bool) -> None:
        """A connection breaks and comes back."""
        self.cut(name, forgets, wills)
        self.reconnect(name)

    @rule(name=st.sampled_from(NAMES), wills=st.booleans())
    def reboot(self, name: str, wills: bool) -> None:
        if wills:
            self.network.append((True, name, m.Offline("the connection was lost")))
        self.devices[name].boot()

    @rule(name=st.sampled_from(NAMES))
    def die(self, name: str) -> None:
        self.devices[name].die()

    @rule()
    def restart_the_coordinator(self) -> None:
        self.gateway.boot(self.now_s)

    @precondition(lambda self: self.gateway.state is not None)
    @rule()
    def kill_the_coordinator(self) -> None:
        self.gateway.state = None

    # Training

    @precondition(lambda self: any(device.job for device in self.devices.values()))
    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["well", "well", "killed", "killed late", "declined"]))
    def training_ends(self, name: str, how: str) -> None:
        device = self.devices[name]
        if device.job is None:
            return
        offer = self.train(device) if how in ("well", "killed late") else None
        device.job = None
        if how == "well" and offer is not None:
            device.feed(ev.Trained(offer))
        else:
            device.feed(ev.JobFailed("signal 9", killed=how != "declined"))
        self.collect()

    def train(self, device: Device) -> m.Offer:
        self.trainings += 1
        return device.train(self.trainings)

    # What must hold

    def audit(self) -> None:
        gateway = self.gateway
        for device, sha256 in gateway.acknowledged:
            number = gateway.counts_in(device, sha256)
            assert number is not None, "acknowledged, and not stored"
            if number < len(gateway.models):
                assert gateway.models[number].get(device) == sha256, "acknowledged, and not in the model"
        counted = [sha256 for model in gateway.models for sha256 in model.values()]
        assert len(set(counted)) == len(counted), "an update counts twice"
        for device in self.devices.values():
            assert device.version < len(gateway.models), "a device is ahead of the fleet"
            for offer in device.settled:
                answered = (device.name, offer.update.sha256) in gateway.acknowledged
                assert answered or (device.name, offer.round) in gateway.refused, "dropped without an answer"
            device.settled = []
        self.audit_reason()

    def audit_reason(self) -> None:
        state = self.gateway.state
        if state is None:
            return
        assert not state.waiting or self.gateway.told == state.waiting
        late = self.now_s - state.since_s >= DEADLINE_S
        if state.phase is rounds.Phase.OPEN and late and self.gateway.ticked_s == self.now_s:
            assert state.waiting, "past its deadline, and no reason given"

    def run_for(self, seconds: float) -> None:
        """Everything that is sent comes, in order."""
        until_s = self.now_s + seconds
        self.collect()
        while self.now_s < until_s and not self.all_done():
            for _ in range(len(self.network)):
                self.arrive(0)
            for device in self.devices.values():
                if device.job is not None:
                    device.feed(ev.Trained(self.train(device)))
            self.collect()
            self.pass_time(0.5)

    def all_done(self) -> bool:
        here = {name for name, device in self.devices.items() if device.state is not None}
        return self.gateway.over and here <= self.gateway.finished

    def teardown(self) -> None:
        if hasattr(self, "gateway"):
            self.end()

    def end(self) -> None:
        """As of the whole fleet: a reason without a quorum, an end with one, one model with all."""
        self.heal(absent=self.leaving[:2])
        self.run_for(GATHER_S + 3 * DEADLINE_S)
        state = self.gateway.state
        assert state is not None
        assert self.gateway.over or state.waiting, f"no quorum, and no reason given: {state}"
        self.heal(absent=self.leaving[:1])
        self.run_for(MOST_S)
        assert self.gateway.over, f"the run does not end: {self.gateway.state}"
        self.heal(absent=[])
        self.run_for(MOST_S)
        assert {device.version for device in self.devices.values()} == {self.gateway.settings.rounds}
        assert self.gateway.finished == set(NAMES)

    def heal(self, absent: Sequence[str]) -> None:
        if self.gateway.state is None:
            self.gateway.boot(self.now_s)
        for name, device in self.devices.items():
            if name in absent:
                self.network.append((True, name, m.Offline("the connection was lost")))
                device.die()
            elif device.state is None:
                device.connected = True
                device.boot()
            self.reconnect(name)
