"""A simulated device: the agent's real session, with a disk, a trainer and a network that are simulated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from edge_agent import session
from edge_agent import session_events as events
from edge_agent.wire import frame, link, pack, replay, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.errors import PayloadError, ProtocolError, WireError
from edge_agent.wire.pace import Pace
from edge_agent.wire.pull import Puller
from edge_agent.wire.ranks import Rows
from edge_agent.wire.state import ModelState
from edge_agent.wire.transfer import BytesSource, MemorySink

from .agenda import Agenda
from .faults import PER_TRAINING, UNUSABLE, Fault, Faults
from .network import FaultyLink, Network
from .settings import DEADLINE_S, FLEET, capability
from .training import HOLDOUT, States, Trained, train

AGENT_VERSION = "soak"
MEASURE_S = 1.0
RESTART_S = 10.0
"""Until an agent that ended or rebooted is back."""
_TRAIN_S = (3.0, 12.0)
_EXAMPLES = 60


class Notes(Protocol):
    """What a device tells the ledger, whatever the coordinator says."""

    def made(self, device: str, trained: Trained) -> None:
        """It has made an update."""

    def caught_up(self, device: str, version: int, found: bytes, expected: bytes) -> None:
        """It followed the objects of a plan to `version`: the digest that this gave, and the one in the plan."""


@dataclass
class World:
    """What all devices share."""

    seed: int
    agenda: Agenda
    faults: Faults
    network: Network
    states: States
    notes: Notes


@dataclass
class Disk:
    """What outlives a reboot."""

    state: ModelState
    residual: Rows
    former: Rows | None = None
    """The residual from before the update in the outbox."""
    boot: int = 0
    welcome: m.Welcome | None = None
    outbox: Trained | None = None
    objects: dict[bytes, bytes] = field(default_factory=dict)


class Device:
    """One device. `turn` moves it: when something arrived, and now and then; between that it does nothing."""

    def __init__(self, index: int, world: World) -> None:
        self.name = f"device-{index:03d}"
        self.gone = False
        """Whether the coordinator dismissed it."""
        self.finished: tuple[int, bytes] | None = None
        """Version and digest of the last model that it keeps to predict with."""
        self._index = index
        self._world = world
        self._decoder = frame.Decoder(m.FromCoordinator)
        self._silent_until_s = 0.0
        self._disk = Disk(world.states.seed, world.states.seed.layout.empty_rows())
        self._start()

    def _start(self) -> None:
        """What a start of the agent is: the memory is empty, the disk is as it was, the boot counter goes up."""
        disk = self._disk
        disk.boot += 1
        self._boot, self._sequence, self._seen = disk.boot, 0, replay.Seen()
        self._running = True
        self._job = 0
        self._fetching: m.ObjectRef | None = None
        """The manifest of the pack that is being fetched."""
        self._wanted: tuple[m.ObjectRef, ...] = ()
        self._sinks: dict[bytes, MemorySink] = {}
        self._puller = Puller(Pace())
        self._busy = False
        offer = None if disk.outbox is None else _offer(disk.outbox)
        self._state = session.State(AGENT_VERSION, None, disk.state.version, welcome=disk.welcome, offer=offer)
        self._link = self._connect()

    def _connect(self) -> FaultyLink:
        will = frame.encode(m.Offline("the connection was lost"), self._boot, replay.WILL_SEQUENCE)
        return self._world.network.connect(self.name, will)

    # What goes wrong

    def cut(self, pause_s: float) -> None:
        """The connection is gone for so long."""
        if self._running:
            self._world.network.broker.cut(self.name)
            self._world.agenda.after(pause_s, self._restore)
            self.turn()

    def _restore(self) -> None:
        if self._running:
            self._world.network.broker.restore(self.name)
            self.turn()

    def fall_silent(self, pause_s: float) -> None:
        """It stays connected, and neither hears nor says anything for so long."""
        self._silent_until_s = self._world.agenda.now_s + pause_s
        self._world.agenda.after(pause_s, self.turn)

    def reboot(self, *, wiped: bool = False) -> None:
        """Power goes, and comes back; a wiped device has lost its disk, boot counter included."""
        if not self._running or self.gone:
            return
        self._running = False
        self._job += 1
        self._world.network.broker.cut(self.name)
        if wiped:
            self._disk = Disk(self._world.states.seed, self._world.states.seed.layout.empty_rows())
        self._world.agenda.after(RESTART_S, self._back)

    def _back(self) -> None:
        self._silent_until_s = 0.0
        self._start()
        self.turn()

    # What moves it

    @property
    def _awake(self) -> bool:
        return self._running and not self.gone and self._world.agenda.now_s >= self._silent_until_s

    def turn(self) -> None:
        """Hears all that lies in its inbox, asks for what it lacks, and says again what nobody answered."""
        while self._awake and (event := self._link.receive(0)) is not None:
            self._hear(event)
        if self._awake:
            if self._busy:
                self._fetch()
            self._feed(events.Tick(self._world.agenda.now_s))

    def _hear(self, event: link.Event) -> None:
        if isinstance(event, link.Connected):
            self._puller.interrupted()
            self._feed(events.Connected())
        elif isinstance(event, link.Disconnected):
            self._feed(events.Disconnected())
        else:
            self._hear_payload(event.payload)

    def _hear_payload(self, payload: bytes) -> None:
        try:
            envelope = self._decoder.decode(payload)
            self._seen, new = replay.admit(self._seen, envelope.boot, envelope.sequence)
            if new:
                self._hear_message(envelope.message)
        except ProtocolError:
            raise
        except WireError:
            return  # as the agent, which goes on with what comes next

    def _hear_message(self, message: m.FromCoordinator) -> None:
        if isinstance(message, m.Want):
            self._serve(message)
        elif isinstance(message, m.Chunk):
            self._puller.take(message, self._world.agenda.now_s)
        elif isinstance(message, m.Missing):
            if self._puller.wants(message.sha256):
                self._puller.clear()
                self._busy = False
                self._feed(events.FetchFailed())
        elif isinstance(message, m.Outdated):
            self._start_above(message.boot)
        else:
            self._feed(message)

    def _start_above(self, boot: int) -> None:
        if boot >= self._boot and not self._state.welcomed:
            self._boot, self._sequence = boot + 1, 0
            self._disk.boot = self._boot
            self._link = self._connect()
            self._feed(events.Disconnected())

    def _serve(self, want: m.Want) -> None:
        outbox = self._disk.outbox
        if outbox is None or outbox.sha256 != want.sha256:
            self._say(m.Missing(want.sha256))
            return
        limit_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        for chunk in transfer.serve(want, BytesSource(outbox.body), limit_bytes=limit_bytes):
            self._say(chunk)

    def _say(self, message: m.Message) -> None:
        self._sequence += 1
        self._link.publish(topics.up(FLEET, self.name), frame.encode(message, self._boot, self._sequence))

    # What the session asks for

    def _feed(self, event: events.Event) -> None:
        self._state, actions = session.advance(self._state, event)
        for action in actions:
            _ACTIONS[type(action)](self, action)

    def _send(self, action: events.Send) -> None:
        self._say(action.message)

    def _join(self, action: events.Join) -> None:
        self._disk.welcome = action.welcome

    def _fetch_pack(self, action: events.FetchPack) -> None:
        self._fetching = action.manifest
        self._want((action.manifest,))

    def _fetch_objects(self, action: events.Fetch) -> None:
        self._fetching = None
        self._want(action.refs)

    def _want(self, refs: tuple[m.ObjectRef, ...]) -> None:
        self._puller.clear()
        self._wanted, self._busy = refs, True
        self._sinks = {ref.sha256: MemorySink() for ref in refs if ref.sha256 not in self._disk.objects}
        for ref in refs:
            if ref.sha256 in self._sinks:
                self._puller.add(ref, self._sinks[ref.sha256])

    def _fetch(self) -> None:
        """Asks for what is missing; tells the session when all is there."""
        limit_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        if self._puller.busy:
            want = self._puller.poll(limit_bytes, self._world.agenda.now_s)
            if want is not None:
                self._say(want)
            return
        self._disk.objects.update((sha256, sink.data) for sha256, sink in self._sinks.items())
        manifest = self._fetching
        if manifest is None:
            self._busy = False
            self._feed(events.Fetched())
        elif self._wanted == (manifest,):
            files = pack.parse_manifest(self._disk.objects[manifest.sha256]).files.values()
            refs = (m.ObjectRef("pack-file", bytes.fromhex(one.sha256), one.size_bytes) for one in files)
            self._want((manifest, *refs))
        else:
            self._busy = False
            self._feed(events.PackReady())

    def _measure(self, action: events.Measure) -> None:
        self._after(MEASURE_S, lambda: events.Measured(_EXAMPLES, HOLDOUT, 12, capability(self._index)))

    def _train(self, action: events.Train) -> None:
        faults = self._world.faults
        outbox = self._disk.outbox
        if outbox is not None and outbox.round == action.plan.round:  # made before a reboot
            self._after(MEASURE_S, lambda: events.Trained(_offer(outbox)))
            return
        if outbox is not None:
            self._discard(events.Discard(outbox.round))
        fault, train_s = faults.of(PER_TRAINING), faults.random.uniform(*_TRAIN_S)
        if fault is Fault.DECLINED:
            self._after(train_s, lambda: events.JobFailed("memory got short", 500_000_000))
        elif fault is Fault.KILLED:
            self._after(train_s, lambda: events.JobFailed("killed", killed=True))
        else:
            late_s = DEADLINE_S if fault is Fault.SLOW else 0.0
            spoilt = fault if fault in UNUSABLE else None
            self._after(train_s + late_s, partial(self._trained, action.plan, spoilt))

    def _trained(self, plan: m.Plan, fault: Fault | None) -> events.Event:
        state = self._caught_up(plan)
        if state is None:
            return events.JobFailed("the objects of the plan do not lead there from here")
        draws = np.random.default_rng([self._world.seed, self._index, plan.round, self._disk.boot])
        trained = train(plan, state, self._disk.residual, draws, fault)
        self._world.notes.made(self.name, trained)
        self._disk.former = self._disk.residual
        self._disk.state, self._disk.residual, self._disk.outbox = state, trained.residual, trained
        self._forget_objects()
        return events.Trained(_offer(trained))

    def _caught_up(self, work: m.Plan | m.Final) -> ModelState | None:
        """The state that the plan starts from; None where its objects start from another one than this device's."""
        state = self._disk.state
        try:
            for ref in work.deltas:
                state = self._world.states.follow(state, self._disk.objects[ref.sha256])
        except PayloadError:
            return None
        if state.version != work.version:
            return None
        digest = self._world.states.digest(state)
        self._world.notes.caught_up(self.name, work.version, digest, work.state_sha256)
        return state if digest == work.state_sha256 else None

    def _forget_objects(self) -> None:
        """Deltas are applied once; the pack stays."""
        for ref in self._wanted:
            if ref.kind in {"delta", "snapshot"}:
                self._disk.objects.pop(ref.sha256, None)

    def _keep_final(self, action: events.KeepFinal) -> None:
        self._after(MEASURE_S, partial(self._kept_final, action.final))

    def _kept_final(self, final: m.Final) -> events.Event:
        state = self._caught_up(final)
        if state is None:
            return events.JobFailed("the objects of the final model do not lead there from here")
        self._disk.state, self.finished = state, (state.version, self._world.states.digest(state))
        return events.FinalKept(m.Finished(state.version, 0.8, 0, 0, 0))

    def _settle(self, action: events.Settle) -> None:
        outbox = self._disk.outbox
        if outbox is not None and outbox.round == action.round:
            self._disk.outbox = None

    def _discard(self, action: events.Discard) -> None:
        outbox, former = self._disk.outbox, self._disk.former
        if outbox is not None and former is not None and outbox.round == action.round:
            self._disk.residual, self._disk.outbox = former, None

    def _stop_job(self, action: events.StopJob) -> None:
        self._job += 1
        self._busy = False

    def _exit(self, action: events.Exit) -> None:
        """The end; after a failure, whoever looks after the agent starts it again."""
        self._say(m.Offline("the agent was stopped"))
        if action.failure is not None:
            self.reboot()
            return
        self.gone = True
        self._world.agenda.after(RESTART_S, self._link.close)

    def _after(self, delay_s: float, result: Callable[[], events.Event]) -> None:
        """The job at hand: it ends in `delay_s`, unless it is stopped or the device reboots."""
        self._job += 1
        self._world.agenda.after(delay_s, partial(self._job_done, self._job, result))

    def _job_done(self, job: int, result: Callable[[], events.Event]) -> None:
        if job != self._job:
            return
        if not self._awake:  # silent: it looks at its trainer later
            self._world.agenda.after(RESTART_S, partial(self._job_done, job, result))
            return
        self._feed(result())


def _offer(made: Trained) -> m.Offer:
    return m.Offer(made.round, m.ObjectRef("update", made.sha256, len(made.body)), made.report)


_ACTIONS: dict[type, Callable[[Device, Any], None]] = {
    events.Send: Device._send,
    events.Join: Device._join,
    events.FetchPack: Device._fetch_pack,
    events.Measure: Device._measure,
    events.Fetch: Device._fetch_objects,
    events.Train: Device._train,
    events.KeepFinal: Device._keep_final,
    events.StopJob: Device._stop_job,
    events.Settle: Device._settle,
    events.Discard: Device._discard,
    events.Exit: Device._exit,
}
