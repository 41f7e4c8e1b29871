"""The session as a state machine: its promises under any interleaving, and each transition of its diagram."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent import session_events as ev
from edge_agent.session import (
    HELLO_AGAIN_S,
    IN_A_ROUND,
    MOST_RESTARTS,
    OFFER_AGAIN_S,
    READY_AGAIN_S,
    Phase,
    State,
    advance,
)
from edge_agent.wire import messages as m
from tests.wire.examples import CAPABILITY, FROM_COORDINATOR, REPORT, SHA, TRAINING

WELCOME = m.Welcome("f", bytes(16), 7, 8, ("ja", "nein"), m.ObjectRef("manifest", SHA, 900), TRAINING)
LATE_ROUNDS = 2
OTHER_SEED = msgspec.structs.replace(WELCOME, seed=8)
OTHER_RATE = msgspec.structs.replace(WELCOME, training=msgspec.structs.replace(TRAINING, lr=0.5))
MEASURED = ev.Measured(300, 33, 41, CAPABILITY)
JOBS = {Phase.MEASURING: ev.Measure, Phase.TRAINING: ev.Train, Phase.FINISHING: ev.KeepFinal}
FETCHES = {Phase.FETCHING: ev.FetchPack, Phase.CATCHING_UP: ev.Fetch}


def plan_of(version: int, variant: int = 0) -> m.Plan:
    """The plan of the round that starts from `version`."""
    deltas = tuple(m.ObjectRef("delta", bytes([version, i]) * 16, 9) for i in range(variant))
    return m.Plan(version + 1, 99, version, deltas, SHA, "train", b"\xff", 200, 0, 120.0, LATE_ROUNDS)


def final_of(version: int) -> m.Final:
    return m.Final(version, (), SHA)


def offer_of(plan: m.Plan) -> m.Offer:
    return m.Offer(plan.round, m.ObjectRef("update", plan.round.to_bytes(32, "big"), 70), REPORT)


class Interleavings(RuleBasedStateMachine):
    """A shell that does what it is told, beside a coordinator that says anything at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State("0.1.0", None, 0)
        self.now_s = 0.0
        self.job: ev.Action | None = None
        self.fetch: ev.Action | None = None
        self.outbox: m.Offer | None = None
        self.exited = False

    @initialize(prepared=st.booleans(), planned=st.booleans())
    def start(self, prepared: bool, planned: bool) -> None:
        """Some runs begin where the work does, so that all of their steps are spent on it."""
        if prepared:
            self.connect()
            self.welcome(WELCOME)
            self.fetch_ends(True)
            self.job_ends()
            if planned:
                self.plan(0, 1)
                self.fetch_ends(True)

    def feed(self, event: ev.Event) -> list[m.Message]:
        """Carries out what the session decides; returns what it sends."""
        done, version = self.state.phase is Phase.DONE, self.state.version
        self.state, actions = advance(self.state, event)
        assert not (done and actions), "nothing happens after the end"
        for action in actions:
            self.carry_out(action)
        fresh = any(isinstance(action, ev.Join) and action.fresh for action in actions)
        assert fresh or self.state.version >= version
        return [action.message for action in actions if isinstance(action, ev.Send)]

    def carry_out(self, action: ev.Action) -> None:
        if isinstance(action, ev.StopJob):
            self.job = self.fetch = None
        elif isinstance(action, tuple(JOBS.values())):
            assert self.job is None, "two jobs at once"
            self.job = action
        elif isinstance(action, tuple(FETCHES.values())):
            assert self.job is None, "a fetch replaces the job's input"
            self.fetch = action
        elif isinstance(action, ev.Settle | ev.Discard):
            assert self.outbox is not None and action.round == self.outbox.round
            self.outbox = None
        elif isinstance(action, ev.Join) and action.fresh:
            self.outbox = None
        elif isinstance(action, ev.Exit):
            self.exited = True

    @rule()
    def connect(self) -> None:
        self.feed(ev.Connected())
        if self.state.phase is not Phase.DONE:
            assert [type(message) for message in self.tick(0)] == [m.Hello]

    @rule()
    def disconnect(self) -> None:
        self.feed(ev.Disconnected())

    @rule(seconds=st.sampled_from([0.05, 1.0, READY_AGAIN_S]))
    def let_time_pass(self, seconds: float) -> None:
        sent = self.tick(seconds)
        if seconds >= READY_AGAIN_S and self.state.online and self.waits_for_the_coordinator():
            assert sent, "it waits for ever"

    def tick(self, seconds: float) -> list[m.Message]:
        self.now_s += seconds
        return self.feed(ev.Tick(self.now_s))

    def waits_for_the_coordinator(self) -> bool:
        if self.state.phase is Phase.DONE:
            return False
        return not self.state.welcomed or self.state.phase in (Phase.JOINING, Phase.IDLE, Phase.OFFERING)

    @rule(welcome=st.sampled_from([WELCOME, WELCOME, WELCOME, OTHER_RATE, OTHER_SEED]))
    def welcome(self, welcome: m.Welcome) -> None:
        sent = self.feed(welcome)
        if self.state.phase is Phase.IDLE:
            assert sent == [self.state.ready]
        if self.state.phase is Phase.OFFERING:
            assert sent == [self.state.ready, self.outbox], "an offer is repeated until it is answered"

    @rule(ahead=st.integers(-2, 2), variant=st.integers(0, 1))
    def plan(self, ahead: int, variant: int) -> None:
        self.feed(plan_of(max(0, self.state.version + ahead), variant))

    @rule(ahead=st.integers(-2, 2))
    def final(self, ahead: int) -> None:
        self.feed(final_of(max(0, self.state.version + ahead)))

    @rule()
    def reconfigure(self) -> None:
        idle, at_work = self.state.phase is Phase.IDLE, self.state.phase in IN_A_ROUND
        phase = self.state.phase
        self.feed(ev.Reconfigured())
        assert self.state.phase is (Phase.MEASURING if idle else phase)
        if phase is not Phase.DONE:
            assert self.state.outdated is at_work, "a round ends as it began, and then the device is measured again"

    @precondition(lambda self: self.outbox is not None)
    @rule()
    def acknowledge(self) -> None:
        offer, offering = self.outbox, self.state.phase is Phase.OFFERING
        assert offer is not None
        self.feed(m.Acknowledged(offer.round, offer.update.sha256))
        assert (self.state.phase in (Phase.IDLE, Phase.MEASURING) and self.outbox is None) or not offering

    @rule()
    def acknowledge_another(self) -> None:
        outbox = self.outbox
        self.feed(m.Acknowledged(1, bytes(32)))
        assert self.outbox == outbox

    @rule(number=st.none() | st.integers(0, 4))
    def reject(self, number: int | None) -> None:
        self.feed(m.Rejected(number, "the update has NaN", False))

    @precondition(lambda self: self.fetch is not None)
    @rule(found=st.sampled_from([True, True, False]))
    def fetch_ends(self, found: bool) -> None:
        ended, self.fetch = self.fetch, None
        whole = ev.PackReady() if isinstance(ended, ev.FetchPack) else ev.Fetched()
        self.feed(whole if found else ev.FetchFailed())

    @precondition(lambda self: self.job is not None)
    @rule()
    def job_ends(self) -> None:
        job, self.job = self.job, None
        if isinstance(job, ev.Train):
            self.outbox = offer_of(job.plan)
            assert self.feed(ev.Trained(self.outbox)) == [self.outbox]
        elif isinstance(job, ev.KeepFinal):
            self.feed(ev.FinalKept(m.Finished(job.final.version, None, 1, 2, 3)))
        else:
            self.feed(MEASURED)

    @precondition(lambda self: self.job is not None and self.state.phase is not Phase.MEASURING)
    @rule()
    def job_fails(self) -> None:
        self.job = None
        assert [type(message) for message in self.feed(ev.JobFailed("no memory", 9))] == [m.Declined]

    @precondition(lambda self: self.job is not None)
    @rule(often=st.integers(1, MOST_RESTARTS + 1))
    def trainer_is_killed(self, often: int) -> None:
        for _ in range(often):
            killed, self.job = self.job, None
            assert killed is not None
            said = self.feed(ev.JobFailed("killed by signal 9", killed=True))
            assert said or type(self.job) is type(killed), "it is started again, or given up with a word"
            if said:
                assert [type(message) for message in said] == [m.Declined]
                return
        assert often <= MOST_RESTARTS, "it is killed for ever"

    @precondition(lambda self: self.state.phase is not Phase.DONE)
    @rule(how=st.sampled_from([m.Leave("over"), m.Rejected(None, "another protocol", True)]), often=st.integers(1, 30))
    def dismiss(self, how: ev.Event, often: int) -> None:
        if often == 30:
            self.feed(how)
            assert self.exited and self.state.phase is Phase.DONE

    @invariant()
    def whoever_works_or_fetches_is_waited_for(self) -> None:
        assert type(self.job) is JOBS.get(self.state.phase, type(None))
        assert type(self.fetch) is FETCHES.get(self.state.phase, type(None))

    @invariant()
    def an_idle_device_is_as_it_said(self) -> None:
        assert self.state.phase is not Phase.IDLE or not self.state.outdated

    @invariant()
    def what_is_said_is_what_is_held(self) -> None:
        assert self.state.ready is None or self.state.ready.version == self.state.version
        if self.state.phase is Phase.OFFERING:
            assert self.state.offer == self.outbox is not None


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def idle(version: int = 0, **fields: object) -> State:
    """A welcomed agent that waits for a plan."""
    ready = m.Ready(SHA, 300, 33, 41, version, CAPABILITY)
    state = State("0.1.0", SHA, version, Phase.IDLE, online=True, welcomed=True, repeat_due_s=100.0)
    return replace(replace(state, welcome=WELCOME, ready=ready), **fields)  # type: ignore[arg-type]


def training(version: int = 0) -> State:
    return idle(version, phase=Phase.TRAINING, work=plan_of(version))


def offering(version: int = 0) -> State:
    return idle(version, phase=Phase.OFFERING, work=plan_of(version), offer=offer_of(plan_of(version)))


def finishing(version: int = 0) -> State:
    return idle(version, phase=Phase.FINISHING, work=final_of(version))


FRESH = State("0.1.0", None, 0)
FETCHING = replace(FRESH, phase=Phase.FETCHING, online=True, welcomed=True, welcome=WELCOME)
MEASURING = replace(FETCHING, phase=Phase.MEASURING, pack=SHA)
READY = ev.Send(m.Ready(SHA, 300, 33, 41, 0, CAPABILITY))


def ready_of(version: int) -> m.Ready:
    return m.Ready(SHA, 300, 33, 41, version, CAPABILITY)


KEPT = m.Finished(2, 0.9, 1, 2, 3)

TRANSITIONS = {
    "joins": (FRESH, WELCOME, Phase.FETCHING, (ev.Join(WELCOME, False), ev.FetchPack(WELCOME.pack))),
    "rejoins": (
        replace(FRESH, welcome=WELCOME), WELCOME, Phase.FETCHING, (ev.Join(WELCOME, False), ev.FetchPack(WELCOME.pack)),
    ),
    "has the pack": (FETCHING, ev.PackReady(), Phase.MEASURING, (ev.Measure(WELCOME),)),
    "finds no pack": (FETCHING, ev.FetchFailed(), Phase.JOINING, ()),
    "measured": (MEASURING, MEASURED, Phase.IDLE, (READY,)),
    "measured with an update left": (
        replace(MEASURING, offer=offer_of(plan_of(0))), MEASURED, Phase.OFFERING,
        (READY, ev.Send(offer_of(plan_of(0)))),
    ),
    "gets other settings": (idle(), ev.Reconfigured(), Phase.MEASURING, (ev.Measure(WELCOME),)),
    "gets other settings while it measures": (
        MEASURING, ev.Reconfigured(), Phase.MEASURING, (ev.StopJob(), ev.Measure(WELCOME)),
    ),
    "gets other settings in a round": (training(), ev.Reconfigured(), Phase.TRAINING, ()),
    "got other settings in the round before": (
        replace(offering(), outdated=True), m.Acknowledged(1, offer_of(plan_of(0)).update.sha256), Phase.MEASURING,
        (ev.Settle(1), ev.Measure(WELCOME)),
    ),
    "gets other settings before it was measured": (FETCHING, ev.Reconfigured(), Phase.FETCHING, ()),
    "cannot measure": (
        MEASURING, ev.JobFailed("no data"), Phase.DONE, (ev.Send(m.Declined(0, "no data", None)), ev.Exit("no data")),
    ),
    "gets a plan": (idle(), plan_of(0, 1), Phase.CATCHING_UP, (ev.Fetch(plan_of(0, 1).deltas),)),
    "gets an old plan": (idle(2), plan_of(1), Phase.IDLE, ()),
    "gets the same plan": (training(), plan_of(0), Phase.TRAINING, ()),
    "trains for a round whose update is still taken": (training(), plan_of(LATE_ROUNDS), Phase.TRAINING, ()),
    "trains for a round that is too old": (
        training(), plan_of(LATE_ROUNDS + 1), Phase.CATCHING_UP, (ev.StopJob(), ev.Fetch(())),
    ),
    "gets another plan of its round": (
        training(), plan_of(0, 1), Phase.CATCHING_UP, (ev.StopJob(), ev.Fetch(plan_of(0, 1).deltas)),
    ),
    "gets an older plan": (training(2), plan_of(1), Phase.TRAINING, ()),
    "has the deltas": (
        idle(phase=Phase.CATCHING_UP, work=plan_of(0)), ev.Fetched(), Phase.TRAINING, (ev.Train(plan_of(0)),),
    ),
    "finds no deltas": (idle(phase=Phase.CATCHING_UP, work=plan_of(0)), ev.FetchFailed(), Phase.IDLE, ()),
    "trained": (training(), ev.Trained(offer_of(plan_of(0))), Phase.OFFERING, (ev.Send(offer_of(plan_of(0))),)),
    "cannot train": (training(), ev.JobFailed("no memory", 9), Phase.IDLE, (ev.Send(m.Declined(1, "no memory", 9)),)),
    "is killed while it trains": (
        training(), ev.JobFailed("signal 9", killed=True), Phase.TRAINING, (ev.Train(plan_of(0)),),
    ),
    "is killed while it measures": (
        MEASURING, ev.JobFailed("signal 9", killed=True), Phase.MEASURING, (ev.Measure(WELCOME),),
    ),
    "is killed while it keeps the final": (
        finishing(2), ev.JobFailed("signal 9", killed=True), Phase.FINISHING, (ev.KeepFinal(final_of(2)),),
    ),
    "is killed too often": (
        replace(training(), restarts=MOST_RESTARTS), ev.JobFailed("signal 9", killed=True), Phase.IDLE,
        (ev.Send(m.Declined(1, "signal 9", None)),),
    ),
    "is killed too often while it measures": (
        replace(MEASURING, restarts=MOST_RESTARTS), ev.JobFailed("signal 9", killed=True), Phase.DONE,
        (ev.Send(m.Declined(0, "signal 9", None)), ev.Exit("signal 9")),
    ),
    "tells less than it knows": (
        training(), ev.JobFailed("a.csv, line 3", told="line 3"), Phase.IDLE, (ev.Send(m.Declined(1, "line 3", None)),),
    ),
    "has other data": (idle(), ev.DataChanged(), Phase.MEASURING, (ev.Measure(WELCOME),)),
    "has other data while it trains": (training(), ev.DataChanged(), Phase.TRAINING, ()),
    "has other data before it is ready": (MEASURING, ev.DataChanged(), Phase.MEASURING, ()),
    "measured again": (idle(2, phase=Phase.MEASURING), MEASURED, Phase.IDLE, (ev.Send(ready_of(2)),)),
    "cannot measure again": (idle(phase=Phase.MEASURING), ev.JobFailed("line 3"), Phase.IDLE, ()),
    "is killed while it measures again": (
        idle(phase=Phase.MEASURING), ev.JobFailed("signal 9", killed=True), Phase.MEASURING, (ev.Measure(WELCOME),),
    ),
    "gets a plan while it measures again": (
        idle(phase=Phase.MEASURING), plan_of(0), Phase.CATCHING_UP, (ev.StopJob(), ev.Fetch(())),
    ),
    "gets the final while it measures again": (
        idle(phase=Phase.MEASURING), final_of(2), Phase.CATCHING_UP, (ev.StopJob(), ev.Fetch(())),
    ),
    "gets an old plan while it measures again": (idle(2, phase=Phase.MEASURING), plan_of(1), Phase.MEASURING, ()),
    "gets a plan while it measures": (MEASURING, plan_of(0), Phase.MEASURING, ()),
    "is asked again": (offering(), plan_of(0, 1), Phase.OFFERING, (ev.Send(offer_of(plan_of(0))),)),
    "is asked for another round while offering": (
        offering(), plan_of(1), Phase.OFFERING, (ev.Send(offer_of(plan_of(0))),),
    ),
    "gets the final while offering": (offering(), final_of(2), Phase.OFFERING, (ev.Send(offer_of(plan_of(0))),)),
    "is acknowledged": (
        offering(), m.Acknowledged(1, offer_of(plan_of(0)).update.sha256), Phase.IDLE, (ev.Settle(1),),
    ),
    "is refused": (offering(), m.Rejected(1, "NaN", False), Phase.IDLE, (ev.Discard(1),)),
    "is refused another round": (offering(), m.Rejected(7, "closed", False), Phase.OFFERING, ()),
    "gets the final": (idle(), final_of(2), Phase.CATCHING_UP, (ev.Fetch(()),)),
    "gets the final while training": (training(), final_of(2), Phase.CATCHING_UP, (ev.StopJob(), ev.Fetch(()))),
    "gets the final again": (finishing(2), final_of(2), Phase.FINISHING, ()),
    "hears a plan after the final": (finishing(2), plan_of(1), Phase.FINISHING, ()),
    "has the final's deltas": (
        idle(phase=Phase.CATCHING_UP, work=final_of(2)), ev.Fetched(), Phase.FINISHING, (ev.KeepFinal(final_of(2)),),
    ),
    "kept the final": (finishing(2), ev.FinalKept(KEPT), Phase.IDLE, (ev.Send(KEPT),)),
    "cannot keep it": (finishing(2), ev.JobFailed("full"), Phase.IDLE, (ev.Send(m.Declined(2, "full", None)),)),
    "is dismissed": (idle(), m.Leave("over"), Phase.DONE, (ev.StopJob(), ev.Exit(None))),
    "speaks another protocol": (
        idle(), m.Rejected(None, "v2", True), Phase.DONE, (ev.StopJob(), ev.Exit("the coordinator refused: v2")),
    ),
    "hears of other terms": (
        training(5), OTHER_SEED, Phase.FETCHING,
        (ev.StopJob(), ev.Join(OTHER_SEED, True), ev.FetchPack(OTHER_SEED.pack)),
    ),
    "hears of other rates": (training(), OTHER_RATE, Phase.TRAINING, (ev.Join(OTHER_RATE, False), READY)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSITIONS)
def test_transition(name: str) -> None:
    state, event, phase, actions = TRANSITIONS[name]
    found, done = advance(state, event)
    assert (found.phase, done) == (phase, actions)


@pytest.mark.parametrize("phase", Phase)
def test_every_message_of_the_coordinator_is_understood_in_every_phase(phase: Phase) -> None:
    state = replace(offering(), phase=phase)
    for message in FROM_COORDINATOR:
        if not isinstance(message, m.Outdated):  # the shell's business: it restarts the link
            advance(state, message)  # type: ignore[arg-type]


def test_hello_is_repeated_until_welcomed() -> None:
    state, _ = advance(FRESH, ev.Connected())
    said = []
    for now_s in (0.0, HELLO_AGAIN_S / 2, HELLO_AGAIN_S, 2 * HELLO_AGAIN_S):
        state, actions = advance(state, ev.Tick(now_s))
        said.append(len(actions))
    assert said == [1, 0, 1, 1]


def test_hello_is_repeated_while_the_pack_is_fetched() -> None:
    """Nothing else gets through to a coordinator that takes us for outdated."""
    state, said = FETCHING, []
    for now_s in (0.0, READY_AGAIN_S / 2, READY_AGAIN_S):
        state, actions = advance(state, ev.Tick(now_s))
        said.append([type(action.message) for action in actions if isinstance(action, ev.Send)])
        assert state.welcomed != bool(said[-1]), "until it is answered, what is heard of being outdated is heeded"
        state, _ = advance(state, WELCOME)
    assert said == [[m.Hello], [], [m.Hello]]
    assert state.phase is Phase.FETCHING


@pytest.mark.parametrize(
    ("state", "after_s"), [(offering(), OFFER_AGAIN_S), (idle(), READY_AGAIN_S), (training(), READY_AGAIN_S)]
)
def test_what_nobody_answers_is_repeated(state: State, after_s: float) -> None:
    state, first = advance(state, ev.Tick(100.0))
    state, soon = advance(state, ev.Tick(100.0 + after_s / 2))
    state, again = advance(state, ev.Tick(100.0 + after_s))
    assert first and not soon and again == first


def test_nothing_is_said_while_offline() -> None:
    state, _ = advance(offering(), ev.Disconnected())
    assert advance(state, ev.Tick(1e9)) == (state, ())


def test_a_trained_agent_reports_the_version_it_holds() -> None:
    state, _ = advance(training(4), ev.Trained(offer_of(plan_of(4))))
    assert state.ready is not None and state.ready.version == state.version == 4


def test_every_new_job_may_be_started_again_as_often_as_the_first() -> None:
    state = replace(training(), restarts=MOST_RESTARTS)
    state, _ = advance(state, plan_of(LATE_ROUNDS + 1))
    state, _ = advance(state, ev.Fetched())
    for restarts in range(1, MOST_RESTARTS + 1):
        state, actions = advance(state, ev.JobFailed("signal 9", killed=True))
        assert (actions, state.restarts) == ((ev.Train(plan_of(LATE_ROUNDS + 1)),), restarts)


def test_other_terms_leave_nothing_of_the_old() -> None:
    state, _ = advance(offering(5), OTHER_SEED)
    assert (state.version, state.ready, state.work, state.offer) == (0, None, None, None)


def test_a_reason_is_never_longer_than_its_message_allows() -> None:
    _, (send,) = advance(training(), ev.JobFailed("x" * 5000))
    assert isinstance(send, ev.Send)
    encoded = msgspec.msgpack.encode(send.message)
    assert len(msgspec.msgpack.decode(encoded, type=m.Declined).reason) == m.REASON_CHARACTERS
