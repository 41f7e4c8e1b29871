"""The agent's resident supervisor: carries out what the session decides.

It holds the MQTT link, fetches, starts trainer processes and sends what they leave in the outbox. It imports neither
numpy nor onnxruntime: what trains lives in a process of its own, for one round.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent import config, jobs, memory, session, startup
from edge_agent import session_events as events
from edge_agent.data_files import Changes, data_files
from edge_agent.fetching import Fetcher
from edge_agent.job_orders import JobOrders
from edge_agent.meter import Account, PhaseMeter, TrafficMeter
from edge_agent.privacy import exposed, private_files, tighten
from edge_agent.recording import Recording
from edge_agent.service.notify import Notifier
from edge_agent.service.service import Service
from edge_agent.store import Store
from edge_agent.textfile import Textfile
from edge_agent.wire import crash_points, frame, link, replay, topics, transfer
from edge_agent.wire import messages as m
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import LinkError, ProtocolError, RankfleetError, WireError
from edge_agent.wire.folder_lock import only_one
from edge_agent.wire.mqtt import MqttLink
from edge_agent.wire.settings import mqtt_settings

LOGGER = logging.getLogger("rankfleet.agent")
POLL_S = 0.05

Connect = Callable[[int], link.Link]
"""Makes the link of this boot: the boot number is part of the last will."""


class Agent:
    """One agent. `run` returns when the coordinator dismisses it, and raises what it cannot mend."""

    def __init__(
        self, settings: config.AgentConfig, store: Store, connect: Connect, service: Service | None = None
    ) -> None:
        self._settings = settings
        self._service = service or Service(settings.state_dir, Notifier({}))
        self._store = store
        self._connect = connect
        self._budget_bytes = config.budget_bytes(settings, memory.available_bytes())
        self._boot = store.next_boot()
        self._sequence = 0
        self._seen = replay.Seen()
        self._decoder = frame.Decoder(m.FromCoordinator)
        self._fetcher = Fetcher(settings.state_dir)
        self._orders = JobOrders(store, self._fetcher)
        self._runner = jobs.Runner()
        self._changes = Changes(settings.data, settings.data_check_s)
        self._phases = PhaseMeter()
        self._traffic = TrafficMeter(startup.account_of(store))
        self._state = startup.initial(store)
        self._fetching = False
        self._textfile = Textfile(settings.metrics_file)
        startup.tell_the_log(settings, lambda: self._state)
        self._exit: events.Exit | None = None
        self._link = connect(self._boot)
        self._recording = Recording(settings, self._budget_bytes, self._count_traffic)

    def run(self) -> None:
        """Serves until dismissed.

        Raises:
            LinkError: the broker refuses for good.
            ProtocolError: the coordinator speaks another protocol version.
            RankfleetError: the coordinator refuses, the data or the budget cannot be used, or the disk is full.
        """
        self._service.ready()
        try:
            while self._exit is None:
                self._turn()
                self._service.turned()
        finally:
            self._service.stopping()
            self._runner.stop()
            self._book_traffic()
            self._recording.close()
            self.close()
        if self._exit.failure is not None:
            raise RankfleetError(self._exit.failure)

    def close(self) -> None:
        """Says farewell, so that the coordinator need not wait for the last will."""
        self._send(m.Offline("the agent was stopped"))
        self._link.close()

    def _turn(self) -> None:
        """One turn of the loop: what the link, the fetcher, the trainer and the clock have to say."""
        event = self._link.receive(POLL_S)
        if event is not None:
            self._on_link(event)
        self._book_traffic()
        self._textfile.look(self._state, self._traffic.account, time.monotonic())
        if self._fetching:
            self._poll_fetcher()
        while (line := self._runner.poll()) is not None:
            self._on_line(line)
        if self._state.phase is session.Phase.IDLE and self._changes.found(time.monotonic()):
            LOGGER.info("the data have changed")
            self._feed(events.DataChanged())
        self._reload()
        self._recording.tick()
        self._feed(events.Tick(time.monotonic()))

    def _reload(self) -> None:
        """Goes on with a changed configuration, from the next job on, where it was asked to read it."""
        change = self._service.reloaded(self._settings, self._budget_of)
        if change is not None:
            self._budget_bytes, self._settings = self._budget_of(change.settings), change.settings
            if not set(change.changed) <= _OF_TRAINING:
                self._feed(events.Reconfigured())

    def _budget_of(self, settings: config.AgentConfig) -> int:
        """The budget that `settings` ask for. What the agent has itself counts as available."""
        if settings.memory == self._settings.memory:
            return self._budget_bytes
        return config.budget_bytes(settings, memory.available_bytes() + memory.tree(os.getpid()).anonymous_bytes)

    def _on_link(self, event: link.Event) -> None:
        if isinstance(event, link.Connected):
            LOGGER.info("connected to the broker")
            if not event.session_present:  # else the broker still has what was on its way
                self._fetcher.interrupted()
            self._feed(events.Connected())
        elif isinstance(event, link.Disconnected):
            if event.fatal:
                raise LinkError(event.reason)
            LOGGER.warning("no connection: %s", event.reason)
            self._feed(events.Disconnected())
        else:
            self._on_payload(event.payload)

    def _on_payload(self, payload: bytes) -> None:
        try:
            envelope = self._decoder.decode(payload)
            if self._is_new_run(envelope.message):
                self._seen = replay.Seen()
            self._seen, new = replay.admit(self._seen, envelope.boot, envelope.sequence)
            if new:
                self._on_message(envelope.message)
        except ProtocolError:
            raise
        except WireError as error:
            LOGGER.warning("refused a message of the coordinator: %s", error)

    def _is_new_run(self, message: m.FromCoordinator) -> bool:
        """Whether the coordinator has a run folder of another run: its boot counter began anew with it."""
        known = self._state.welcome
        return isinstance(message, m.Welcome) and known is not None and message.run != known.run

    def _on_message(self, message: m.FromCoordinator) -> None:
        if isinstance(message, m.Want):
            self._serve(message)
        elif isinstance(message, m.Chunk):
            self._fetcher.take(message, time.monotonic())
            crash_points.reach(_TAKEN.get(self._state.phase))
        elif isinstance(message, m.Missing):
            failed = self._fetcher.missing(message.sha256)
            if failed is not None:
                self._feed(failed)
        elif isinstance(message, m.Outdated):
            self._start_above(message.boot)
        else:
            if isinstance(message, m.Rejected):
                LOGGER.warning("the coordinator refused: %s", message.reason)
            self._feed(message)

    def _start_above(self, boot: int) -> None:
        """Takes a boot number that the coordinator has not seen; the link starts anew, for the will carries it."""
        if boot < self._boot or self._state.welcomed:
            return
        self._boot, self._sequence = boot + 1, 0
        self._store.keep(boot=self._boot)
        self._recording.restart_link()
        self._link.close()
        self._link = self._connect(self._boot)
        self._traffic.restart()
        self._feed(events.Disconnected())

    def _serve(self, want: m.Want) -> None:
        outgoing = self._store.outgoing()
        if outgoing is None or outgoing.sha256 != want.sha256:
            self._send(m.Missing(want.sha256))
            return
        limit_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        for chunk in transfer.serve(want, transfer.BytesSource(outgoing.body), limit_bytes=limit_bytes):
            if not self._send(chunk):
                return
            crash_points.reach(Point.AGENT_CHUNK_SERVED)

    def _poll_fetcher(self) -> None:
        chunk_bytes = transfer.chunk_bytes_for(self._link.max_payload_bytes)
        try:
            want, event = self._fetcher.poll(chunk_bytes, time.monotonic())
        except WireError as error:
            LOGGER.warning("what was on disk is damaged, and fetched again: %s", error)
            return
        if want is not None:
            self._send(want)
        if event is not None:
            self._fetching = False
            self._feed(event)

    def _on_line(self, line: jobs.AnyLine) -> None:
        if isinstance(line, jobs.Step):
            self._on_step(line)
            return
        if isinstance(line, jobs.Recorded):
            self._recording.take(line.span)
            return
        if self._state.phase is session.Phase.MEASURING:
            self._changes.read()
        if isinstance(line, jobs.MeasureResult):
            self._orders.keep(line.capability, self._settings, self._budget_bytes, self._state)
            self._feed(events.Measured(line.examples, line.holdout, line.longest_tokens, line.capability))
        elif isinstance(line, jobs.TrainResult):
            self._feed(events.Trained(self._offer()))
        elif isinstance(line, jobs.FinalResult):
            self._feed(events.FinalKept(self._finished(line)))
        else:
            LOGGER.error("%s", line.reason)
            self._feed(events.JobFailed(line.reason, line.smallest_budget_bytes, line.killed, line.told))

    def _on_step(self, line: jobs.Step) -> None:
        if isinstance(self._state.work, m.Plan):
            heat_c = self._recording.temperature_c
            progress = m.Progress(self._state.work.round, line.phase, line.step, line.steps, line.loss, heat_c)
            self._send(progress, qos=0)

    def _offer(self) -> m.Offer:
        outgoing = self._store.outgoing()
        if outgoing is None:
            raise AssertionError("the trainer said that it left an update")
        offer = startup.make_offer(self._store, outgoing, self._phases.drain(), self._traffic.account)
        self._recording.take_offer(offer)
        return offer

    def _finished(self, line: jobs.FinalResult) -> m.Finished:
        account = self._traffic.account
        accuracy = line.correct / line.total if line.total else None
        return m.Finished(line.version, accuracy, account.bytes_up, account.bytes_down, account.pack_bytes_down)

    def _feed(self, event: events.Event) -> None:
        crash_points.reach(events.HEARD.get(type(event)))
        before = self._state.phase
        self._state, actions = session.advance(self._state, event)
        self._service.stands(
            online=self._state.online, phase=self._state.phase.value, busy=self._state.phase in session.IN_A_ROUND
        )
        if self._state.phase is not before:
            LOGGER.info("%s -> %s", before.value, self._state.phase.value)
            self._phases.enter(_PHASE_NAMES.get(self._state.phase, ""))
            memory.give_back()  # of chunks, a decoded pack manifest and updates nothing is needed any more
        self._recording.follow(self._state)
        for action in actions:
            self._act(action)
            crash_points.reach(events.DONE.get(type(action.message if isinstance(action, events.Send) else action)))

    def _act(self, action: events.Action) -> None:
        if isinstance(action, events.Send):
            self._send(action.message)
        elif isinstance(action, events.Join):
            self._join(action)
        elif isinstance(action, events.FetchPack):
            self._fetching = True
            self._fetcher.start_pack(action.manifest)
        elif isinstance(action, events.Fetch):
            self._fetching = True
            self._fetcher.start(action.refs)
        elif isinstance(action, events.StopJob):
            self._fetching = False
            self._runner.stop()
        elif isinstance(action, events.Settle):
            self._store.settle(action.round)
        elif isinstance(action, events.Discard):
            self._store.discard(action.round)
        elif isinstance(action, events.Exit):
            self._exit = action
        else:
            self._runner.start(self._job(action))

    def _join(self, action: events.Join) -> None:
        if action.fresh:
            LOGGER.warning("the fleet's terms are not those of the last run: starting from its seed state")
            self._store.forget_fleet()
            self._traffic.account = Account()
        self._store.keep(welcome=action.welcome)

    def _job(self, action: events.Measure | events.Train | events.KeepFinal) -> jobs.AnyJob:
        if isinstance(action, events.Measure):
            self._changes.reading()
        return self._orders.job(action, self._settings, self._budget_bytes, self._state)

    def _send(self, message: m.Message, *, qos: int = 1) -> bool:
        """False if the link could not take it: what matters is repeated by the session."""
        self._sequence += 1
        payload = frame.encode(message, self._boot, self._sequence)
        topic = topics.up(self._settings.fleet, self._settings.device)
        return self._link.publish(topic, payload, qos=qos)

    def _count_traffic(self) -> link.Traffic | None:
        return self._link.traffic()

    def _book_traffic(self) -> None:
        before = self._traffic.account
        self._traffic.take(self._link.traffic(), pack=self._state.phase is session.Phase.FETCHING)
        if self._traffic.account != before and self._state.phase is session.Phase.IDLE:
            self._store.keep(account=self._traffic.account)


def run(settings: config.AgentConfig, load: Callable[[], config.AgentConfig] | None = None) -> None:
    """Runs an agent until the coordinator dismisses it; see `Agent.run` for what it raises. Where it is a service,
    SIGHUP has it `load` its configuration again."""
    memory.stay_small()
    service = Service(settings.state_dir, Notifier(), load)
    with private_files(), only_one(settings.state_dir, "agent"):
        tighten(settings.state_dir)
        _warn_of_readers(settings.data)
        store = Store(settings.state_dir / "agent.db")
        try:
            Agent(settings, store, lambda boot: _link(settings, boot), service).run()
        finally:
            store.close()


def _warn_of_readers(data: Path) -> None:
    """The data are their owner's to protect, who should know."""
    try:
        found = exposed(data_files(data))
    except OSError:  # the trainer says so, when it reads them
        return
    if found:
        LOGGER.warning(
            "%d data files, %s first, can be read by every user of this board: take that right away (chmod o-r)",
            len(found), found[0],
        )  # fmt: skip


def _link(settings: config.AgentConfig, boot: int) -> link.Link:
    will = m.Offline("the connection was lost")
    payload = frame.encode(will, boot, replay.WILL_SEQUENCE)
    return MqttLink(
        mqtt_settings(settings.broker, settings.device),
        (topics.down(settings.fleet, settings.device),),
        link.Will(topics.up(settings.fleet, settings.device), payload),
    )


_OF_TRAINING = {"training", "prefix", "gateway"}
"""Tables of the configuration that nothing is measured with."""
_PHASE_NAMES = {
    session.Phase.FETCHING: "fetch",
    session.Phase.CATCHING_UP: "receive",
    session.Phase.OFFERING: "publish",
    session.Phase.IDLE: "wait",
}
_TAKEN = {
    session.Phase.FETCHING: Point.AGENT_PACK_CHUNK,
    session.Phase.CATCHING_UP: Point.AGENT_DELTA_CHUNK,
}
