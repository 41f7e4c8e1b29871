"""Shells of the two state machines that do as little as they can: a message is an event, and a disk is a field.

The coordinator's takes whatever it is offered and asks its machine alone whether it counts; the agent's fetches at
once. So what holds is the machines' own doing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from coordinator import round as rounds
from coordinator.config import RoundSettings
from coordinator.lateness import Place, place_of
from edge_agent import session
from edge_agent import session_events as ev
from edge_agent.wire import messages as m
from tests.wire.examples import CAPABILITY, REPORT, SHA, TRAINING

REPEAT_S = 10.0
WELCOME = m.Welcome("f", bytes(16), 7, 8, ("ja", "nein"), m.ObjectRef("manifest", SHA, 900), TRAINING)
MEASURED = ev.Measured(300, 33, 41, CAPABILITY)


@dataclass
class Device:
    """An agent's shell. `version` and `outbox` are on its disk."""

    name: str
    version: int = 0
    outbox: m.Offer | None = None
    state: session.State | None = None
    """None while it is off."""
    job: ev.Train | None = None
    connected: bool = True
    sent: list[m.Message] = field(default_factory=list)
    settled: list[m.Offer] = field(default_factory=list)
    """What has left its outbox."""

    def boot(self) -> None:
        self.job, self.sent = None, []
        self.state = session.State("0.1.0", None, self.version, offer=self.outbox)
        if self.connected:
            self.feed(ev.Connected())

    def die(self) -> None:
        self.state = self.job = None

    def feed(self, event: ev.Event) -> None:
        """Carries out what the session decides, all but training at once."""
        events = [event]
        while events and self.state is not None:
            self.state, actions = session.advance(self.state, events.pop(0))
            for action in actions:
                events.extend(self._act(action))

    def _act(self, action: ev.Action) -> Iterator[ev.Event]:
        if isinstance(action, ev.Send) and self.connected:
            self.sent.append(action.message)
        elif isinstance(action, ev.FetchPack):
            yield ev.PackReady()
        elif isinstance(action, ev.Measure):
            yield MEASURED
        elif isinstance(action, ev.Fetch):
            yield ev.Fetched()
        elif isinstance(action, ev.Train):
            self.job = action
        elif isinstance(action, ev.StopJob):
            self.job = None
        elif isinstance(action, ev.KeepFinal):
            self.version = action.final.version
            yield ev.FinalKept(m.Finished(self.version, None, 1, 2, 3))
        elif isinstance(action, ev.Settle | ev.Discard) and self.outbox and self.outbox.round == action.round:
            self.settled.append(self.outbox)
            self.outbox = None

    def train(self, count: int) -> m.Offer:
        """The trainer is done: state and update are on disk. One that was made before is not made again."""
        job, self.job = self.job, None
        assert job is not None and job.plan.version >= self.version, "it goes back"
        if self.outbox is None or self.outbox.round != job.plan.round:
            sha256 = job.plan.round.to_bytes(16, "big") + count.to_bytes(16, "big")
            self.version = job.plan.version
            self.outbox = m.Offer(job.plan.round, m.ObjectRef("update", sha256, 70), REPORT)
        return self.outbox


class Gateway:
    """The coordinator's shell. `models`, `stored` and `plans` are on its disk; `models[v]` are the updates in version v
    that were not in the one before."""

    def __init__(self, settings: RoundSettings) -> None:
        self.settings = settings
        self.models: list[dict[str, bytes]] = [{}]
        self.stored: dict[tuple[str, int], bytes] = {}
        self.plans: dict[tuple[str, int], m.Plan] = {}
        self.finished: set[str] = set()
        self.acknowledged: set[tuple[str, bytes]] = set()
        self.refused: set[tuple[str, int]] = set()
        self.known: dict[str, m.Ready] = {}
        self.state: rounds.State | None = None
        self.told = ""
        self.repeat_s = self.ticked_s = 0.0
        self.sent: list[tuple[str, m.Message]] = []

    def boot(self, now_s: float) -> None:
        number = len(self.models) - 1
        state = rounds.begin(self.settings, number, now_s)
        stored = [device for device, of in self.stored if of == number + 1]
        planned = [device for device, of in self.plans if of == number + 1]
        parts = dict.fromkeys(planned, rounds.Part.PENDING) | dict.fromkeys(stored, rounds.Part.STORED)
        self.state, self.told, self.sent = (rounds.reopen(state, parts, now_s) if parts else state), "", []
        for device in self.known:
            self.send(device, WELCOME)

    @property
    def over(self) -> bool:
        return self.state is not None and self.state.phase is rounds.Phase.FINISHED

    def send(self, device: str, message: m.Message) -> None:
        self.sent.append((device, message))

    def hear(self, device: str, message: m.Message, now_s: float) -> None:
        if isinstance(message, m.Hello):
            self.send(device, WELCOME)
        elif isinstance(message, m.Ready):
            self.known[device] = message
            self.feed(rounds.Ready(device, now_s))
        elif isinstance(message, m.Declined):
            self.feed(rounds.Declined(device, message.round, now_s))
        elif isinstance(message, m.Offline):
            self.feed(rounds.Lost(device, now_s))
        elif isinstance(message, m.Finished) and message.version == self.settings.rounds:
            self.finished.add(device)
        elif isinstance(message, m.Offer):
            self._offered(device, message, now_s)

    def _offered(self, device: str, offer: m.Offer, now_s: float) -> None:
        """The machine alone says whether it counts: a second update, or one of another round, changes nothing in it."""
        assert self.state is not None
        sha256, before = offer.update.sha256, self.state
        if self.counts_in(device, sha256) is None:
            place = place_of(before, device, offer.round)
            if place is Place.NOT_YET:
                return
            stored = rounds.StoredLate(device, before.round, now_s)
            self.feed(stored if place is Place.LATE else rounds.Stored(device, offer.round, now_s), storing=sha256)
            if self.state == before:
                self.refused.add((device, offer.round))
                self.send(device, m.Rejected(offer.round, "no place for it", False))
                return
        self.acknowledged.add((device, sha256))
        self.send(device, m.Acknowledged(offer.round, sha256))

    def counts_in(self, device: str, sha256: bytes) -> int | None:
        """The round that this update is stored for, if it is."""
        return next((number for (name, number), kept in self.stored.items() if (name, kept) == (device, sha256)), None)

    def tick(self, now_s: float) -> None:
        self.ticked_s = now_s
        self.feed(rounds.Tick(now_s))
        if self.state is not None and now_s >= self.repeat_s:
            self.repeat_s = now_s + REPEAT_S
            for device in sorted(self.known):
                if self.over and device not in self.finished:
                    self.send(device, m.Final(self.settings.rounds, (), SHA))
                elif self.state.phase is rounds.Phase.OPEN and self.state.parts.get(device) is rounds.Part.PENDING:
                    self.send(device, self.plans[device, self.state.round])

    def feed(self, event: rounds.Event, storing: bytes | None = None) -> None:
        assert self.state is not None
        before = self.state
        self.state, actions = rounds.advance(before, event)
        if storing is not None and isinstance(event, rounds.Stored | rounds.StoredLate) and self.state != before:
            assert (event.device, event.round) not in self.stored, "two updates of a device in one round"
            self.stored[event.device, event.round] = storing
        for action in actions:
            self._act(action, event.now_s)

    def _act(self, action: rounds.Action, now_s: float) -> None:
        if isinstance(action, rounds.Open | rounds.Replan):
            for device in action.cohort if isinstance(action, rounds.Open) else (action.device,):
                version = len(self.models) - 1
                assert action.round == version + 1
                of = self.settings
                terms = (action.round, of.rounds, version, (), SHA, "train", b"\xff", 200, 0, of.deadline_s)
                plan = m.Plan(*terms, of.late_rounds)
                self.plans[device, action.round] = plan
                self.send(device, plan)
        elif isinstance(action, rounds.Close):
            assert action.round == len(self.models) and len(set(action.contributors)) >= self.settings.quorum
            stored = {device: self.stored.get((device, action.round)) for device in action.contributors}
            self.models.append({device: sha256 for device, sha256 in stored.items() if sha256 is not None})
            assert None not in stored.values(), "counted, and not stored"
            self.plans = {}
            self.feed(rounds.Closed(now_s))
        elif isinstance(action, rounds.Waiting):
            self.told = action.reason
