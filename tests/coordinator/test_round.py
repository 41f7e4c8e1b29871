"""When rounds open and close: laws over arbitrary histories, and one example of each rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.config import RoundSettings
from coordinator.round import (
    Action,
    Close,
    Closed,
    Declined,
    Event,
    Expelled,
    Finish,
    Lost,
    Open,
    Part,
    Paused,
    Phase,
    Ready,
    Replan,
    Spoiled,
    State,
    Stored,
    StoredLate,
    Tick,
    Waiting,
    advance,
    begin,
    reopen,
)

SETTINGS = RoundSettings(rounds=2, expected=3, gather_s=60, quorum=2, deadline_s=100, grace_s=10)
DEVICES = ("a", "b", "c")


def play(state: State, events: Iterable[Event]) -> tuple[State, list[Action]]:
    actions: list[Action] = []
    for event in events:
        state, done = advance(state, event)
        actions.extend(done)
    return state, actions


def readies(*devices: str, now_s: float = 0.0) -> list[Event]:
    return [Ready(device, now_s) for device in devices]


def opened(settings: RoundSettings = SETTINGS, devices: tuple[str, ...] = ("a", "b", "c")) -> State:
    state, actions = play(begin(settings, 0, 0.0), readies(*devices))
    assert actions[-1] == Open(1, devices)
    return state


# Pause


def test_a_run_that_is_paused_finishes_its_round_and_opens_no_other_until_it_is_resumed() -> None:
    state, actions = play(opened(), [Paused(True, 1.0), *(Stored(device, 1, 2.0) for device in DEVICES)])
    assert actions == [Close(1, DEVICES)]
    state, actions = play(state, [Closed(3.0), Tick(4.0), Ready("a", 5.0), Tick(1000.0)])
    assert actions == [Waiting("the rounds are paused, until they are resumed")]
    _, actions = play(state, [Paused(False, 1001.0)])
    assert actions == [Open(2, DEVICES)]


def test_no_first_round_opens_while_the_run_is_paused() -> None:
    state, actions = play(begin(SETTINGS, 0, 0.0), [Paused(True, 0.0), *readies(*DEVICES)])
    assert (state.phase, [type(action) for action in actions]) == (Phase.GATHERING, [Waiting])


def test_a_run_that_is_paused_in_its_last_round_ends_with_it() -> None:
    state = reopen(begin(SETTINGS, 1, 0.0), dict.fromkeys(DEVICES, Part.STORED), 0.0)
    _, actions = play(state, [Paused(True, 1.0), Tick(2.0), Closed(3.0)])
    assert actions == [Close(2, DEVICES), Finish()]


# Late updates


def test_a_late_update_is_its_devices_part_in_the_open_round() -> None:
    state, actions = play(opened(), [StoredLate("a", 1, 1.0), Stored("b", 1, 2.0), Stored("a", 1, 3.0)])
    assert (state.parts["a"], actions) == (Part.STORED, [])
    _, actions = play(state, [Stored("c", 1, 4.0)])
    assert actions == [Close(1, ("a", "b", "c"))]


def test_a_late_update_counts_of_a_device_that_was_not_asked_too() -> None:
    settings = RoundSettings(rounds=2, expected=2, quorum=2, cohort=2)
    _, actions = play(opened(settings, ("a", "b")), [StoredLate("c", 1, 1.0), Stored("b", 1, 2.0)])
    assert actions == [Close(1, ("b", "c"))]


def test_a_late_update_that_comes_after_its_round_too_changes_nothing() -> None:
    state, actions = play(opened(), [StoredLate("a", 2, 1.0)])
    assert (state, actions) == (opened(), [])


# Expelled


def test_a_device_that_is_expelled_is_not_waited_for_and_nothing_of_it_counts() -> None:
    state, actions = play(opened(), [Stored("a", 1, 1.0), Stored("c", 1, 1.0), Expelled("c", 2.0)])
    assert (set(state.parts), state.ready, actions) == ({"a", "b"}, {"a", "b"}, [])
    _, actions = play(state, [Stored("c", 1, 2.0), Stored("b", 1, 3.0)])
    assert actions == [Close(1, ("a", "b"))]


def test_a_round_of_which_everyone_is_expelled_is_as_if_it_had_not_opened() -> None:
    state, actions = play(opened(), [Expelled(device, 1.0) for device in ("a", "b", "c")])
    assert (state.phase, state.round, state.ready) == (Phase.GATHERING, 0, frozenset())
    assert isinstance(actions[-1], Waiting)


# Opening


def test_the_first_round_opens_when_all_expected_devices_are_ready() -> None:
    state, actions = play(begin(SETTINGS, 0, 0.0), readies("b", "a"))
    assert not any(isinstance(action, Open) for action in actions)
    assert play(state, readies("c"))[1] == [Open(1, ("a", "b", "c"))]


def test_the_first_round_opens_with_a_quorum_once_gathering_took_too_long() -> None:
    state, _ = play(begin(SETTINGS, 0, 0.0), readies("b", "a"))
    assert play(state, [Tick(59.0)])[1] == []
    assert play(state, [Tick(60.0)])[1] == [Open(1, ("a", "b"))]


def test_later_rounds_open_at_once_with_whoever_is_ready() -> None:
    state, _ = play(opened(), [*readies("d"), *(Stored(device, 1, 5.0) for device in "abc")])
    assert play(state, [Closed(6.0)])[1] == [Open(2, ("a", "b", "c", "d"))]


def test_too_few_devices_are_said_once() -> None:
    _, actions = play(begin(SETTINGS, 0, 0.0), [Tick(1.0), Tick(2.0), Tick(3.0)])
    assert actions == [Waiting("0 of 3 devices are ready")]


# Closing


def test_a_round_closes_when_all_have_answered() -> None:
    state, actions = play(opened(), [Stored("a", 1, 1.0), Declined("b", 1, 2.0)])
    assert actions == []
    assert play(state, [Stored("c", 1, 3.0)])[1] == [Close(1, ("a", "c"))]


def test_a_cohort_is_drawn_anew_for_every_round_and_the_same_from_the_same_seed() -> None:
    settings = RoundSettings(rounds=9, expected=6, quorum=2, cohort=3)
    state, actions = play(begin(settings, 0, 0.0, seed=4), readies(*"abcdef"))
    again, same = play(begin(settings, 0, 0.0, seed=4), readies(*"fedcba"))
    assert actions == same and state == again
    drawn = []
    for number in range(1, 7):
        (cohort,) = [action.cohort for action in actions if isinstance(action, Open)]
        drawn.append(cohort)
        state, actions = play(state, [*(Stored(device, number, 1.0) for device in cohort), Closed(2.0)])
    assert all(len(cohort) == 3 for cohort in drawn)
    assert len(set(drawn)) > 1


def test_a_round_closes_with_the_updates_it_needs_and_does_not_wait_for_the_slowest() -> None:
    settings = RoundSettings(rounds=2, expected=6, quorum=2, cohort=3, over_selection=1.5)
    state, actions = play(begin(settings, 0, 0.0), readies(*"abcdef"))
    (cohort,) = [action.cohort for action in actions if isinstance(action, Open)]
    assert len(cohort) == 5
    state, actions = play(state, [Stored(device, 1, 1.0) for device in cohort[:2]])
    assert actions == []
    assert play(state, [Stored(cohort[4], 1, 2.0)])[1] == [Close(1, (*cohort[:2], cohort[4]))]


def test_fewer_devices_than_a_cohort_all_take_part() -> None:
    settings = RoundSettings(rounds=2, expected=2, quorum=1, cohort=3, over_selection=2.0)
    _, actions = play(begin(settings, 0, 0.0), readies(*"ab"))
    assert actions[-1] == Open(1, ("a", "b"))


def test_the_deadline_closes_a_round_that_has_its_quorum() -> None:
    state, _ = play(opened(), [Stored("a", 1, 1.0), Stored("b", 1, 2.0)])
    assert play(state, [Tick(99.0)])[1] == []
    assert play(state, [Tick(100.0)])[1] == [Close(1, ("a", "b"))]


def test_past_its_deadline_a_round_closes_with_the_update_that_makes_its_quorum() -> None:
    state, actions = play(opened(), [Stored("a", 1, 1.0), Tick(100.0), Tick(101.0)])
    assert actions == [Waiting("round 1 has 1 updates, its quorum is 2")]
    assert play(state, [Stored("c", 1, 102.0)])[1] == [Close(1, ("a", "c"))]


def test_a_lost_device_is_waited_for_as_long_as_the_grace_time() -> None:
    state, _ = play(opened(), [Stored("a", 1, 1.0), Stored("b", 1, 1.0), Lost("c", 2.0), Lost("c", 9.0)])
    assert play(state, [Tick(11.9)])[1] == []
    assert play(state, [Tick(12.0)])[1] == [Close(1, ("a", "b"))]


def test_a_device_that_comes_back_gets_its_plan_again_and_all_the_time_there_is() -> None:
    state, actions = play(opened(), [Stored("a", 1, 1.0), Stored("b", 1, 1.0), Lost("c", 2.0), Ready("c", 8.0)])
    assert actions == [Replan(1, "c")]
    assert play(state, [Tick(50.0)])[1] == []


def test_an_update_that_is_stored_needs_no_plan_any_more() -> None:
    assert play(opened(), [Stored("c", 1, 1.0), Lost("c", 2.0), Ready("c", 8.0)])[1] == []


def test_answers_to_another_round_change_nothing() -> None:
    state = opened()
    assert play(state, [Stored("a", 2, 1.0), Declined("b", 0, 1.0), Stored("d", 1, 1.0)]) == (state, [])


def test_a_stored_update_cannot_be_declined() -> None:
    state, _ = play(opened(), [Stored("a", 1, 1.0), Declined("a", 1, 2.0)])
    assert state.parts["a"] is Part.STORED


# Below quorum


def test_a_round_that_nobody_can_train_is_tried_again_after_the_grace_time() -> None:
    state, actions = play(opened(), [Declined(device, 1, 70.0) for device in "abc"])
    assert actions == [Waiting("no device of the cohort could train round 1")]
    assert play(state, [Tick(79.9)])[1] == []
    assert play(state, [Tick(80.0)])[1] == [Open(1, ("a", "b", "c"))]


def test_a_round_whose_cohort_is_gone_is_opened_anew() -> None:
    state, _ = play(opened(), [*(Lost(device, 1.0) for device in "abc"), Tick(11.0)])
    assert (state.phase, state.round) == (Phase.GATHERING, 0)
    assert play(state, [*readies("a", "b", "c", now_s=30.0)])[1][-1] == Open(1, ("a", "b", "c"))


def test_below_quorum_those_who_declined_are_asked_again_after_the_grace_time() -> None:
    state, actions = play(opened(), [Stored("a", 1, 1.0), Declined("b", 1, 2.0), Declined("c", 1, 5.0), Tick(11.0)])
    assert actions == [Waiting("round 1 has 1 updates, its quorum is 2")]
    state, actions = play(state, [Tick(12.0), Tick(13.0)])
    assert actions == [Replan(1, "b")]
    assert play(state, [Tick(15.0)])[1] == []  # b is at work again
    assert play(state, [Declined("b", 1, 15.0)])[1] == [Replan(1, "c")]


def test_below_quorum_devices_that_came_since_the_round_opened_are_asked_too() -> None:
    answers = [Stored("a", 1, 2.0), Declined("b", 1, 2.0), Declined("c", 1, 2.0)]
    state, actions = play(opened(), [*readies("d", now_s=1.0), *answers])
    assert actions == [Waiting("round 1 has 1 updates, its quorum is 2"), Replan(1, "d")]
    assert play(state, [Stored("d", 1, 3.0)])[1] == [Close(1, ("a", "d"))]


def test_below_quorum_a_device_that_joins_is_asked_at_once() -> None:
    state, _ = play(opened(), [Stored("a", 1, 2.0), Declined("b", 1, 2.0), Declined("c", 1, 2.0)])
    assert play(state, readies("d", now_s=3.0))[1] == [Replan(1, "d")]


# Beginning and end


def test_after_the_last_round_the_run_is_finished() -> None:
    state, actions = play(opened(RoundSettings(rounds=1, expected=3)), [Stored("a", 1, 1.0), Stored("b", 1, 1.0)])
    assert actions == []
    state, actions = play(state, [Stored("c", 1, 1.0), Closed(2.0), Tick(3.0), Ready("d", 4.0)])
    assert actions == [Close(1, ("a", "b", "c")), Finish()]
    assert state.phase is Phase.FINISHED


def test_started_after_the_last_round_there_is_nothing_to_do() -> None:
    assert play(begin(SETTINGS, 2, 0.0), [Tick(1.0), Tick(2.0)])[1] == [Finish()]


def test_started_between_rounds_a_quorum_is_enough() -> None:
    assert play(begin(SETTINGS, 1, 0.0), readies("a", "b"))[1][-1] == Open(2, ("a", "b"))


def test_started_in_a_round_its_devices_go_on() -> None:
    state = reopen(begin(SETTINGS, 1, 0.0), {"a": Part.STORED, "b": Part.PENDING}, 0.0)
    state, actions = play(state, readies("a", "b", now_s=1.0))
    assert actions == [Replan(2, "b")]
    assert play(state, [Tick(50.0), Stored("b", 2, 60.0)])[1] == [Close(2, ("a", "b"))]


def test_started_in_a_round_that_has_all_its_updates_it_closes() -> None:
    state = reopen(begin(SETTINGS, 0, 0.0), {"a": Part.STORED, "b": Part.STORED}, 0.0)
    assert play(state, [Tick(0.1)])[1] == [Close(1, ("a", "b"))]


def test_started_in_a_round_whose_devices_stay_away_the_grace_time_is_enough() -> None:
    state = reopen(begin(SETTINGS, 0, 0.0), {"a": Part.STORED, "b": Part.STORED, "c": Part.PENDING}, 0.0)
    assert play(state, [Tick(9.0)])[1] == []
    assert play(state, [Tick(10.0)])[1] == [Close(1, ("a", "b"))]


# Updates that are damaged on disk


def closing() -> State:
    state, actions = play(opened(), [Stored(device, 1, 5.0) for device in ("a", "b", "c")])
    assert actions == [Close(1, ("a", "b", "c"))]
    return state


def test_a_round_with_damaged_updates_is_open_again_and_their_devices_are_asked_again() -> None:
    state, actions = play(closing(), [Spoiled(("a", "c"), 1, 6.0)])
    assert actions == [Replan(1, "a"), Replan(1, "c")]
    state, actions = play(state, [Tick(7.0), Stored("a", 1, 8.0), Tick(9.0)])
    assert (actions, state.phase) == ([], Phase.OPEN)
    assert play(state, [Stored("c", 1, 10.0)])[1] == [Close(1, ("a", "b", "c"))]


def test_a_device_that_is_away_is_waited_for_as_long_as_any() -> None:
    state, actions = play(closing(), [Lost("a", 6.0), Spoiled(("a",), 1, 7.0)])
    assert actions == []
    assert play(state, [Tick(15.0)])[1] == []
    assert play(state, [Tick(16.0)])[1] == [Close(1, ("b", "c"))]
    assert play(state, [Ready("a", 8.0)])[1] == [Replan(1, "a")]


def test_a_round_that_is_not_closing_has_no_damaged_updates() -> None:
    state = opened()
    assert play(state, [Spoiled(("a",), 1, 1.0)]) == (state, [])
    state = closing()
    assert play(state, [Spoiled(("a",), 2, 1.0)]) == (state, [])


class AnyHistory(RuleBasedStateMachine):
    """Arbitrary events in arbitrary order, as time passes; a twin of the bookkeeping checks every action."""

    @initialize(
        rounds=st.integers(1, 3),
        expected=st.integers(1, 3),
        spare=st.integers(0, 2),
        left=st.integers(0, 3),
    )
    def start(self, rounds: int, expected: int, spare: int, left: int) -> None:
        quorum = max(1, expected - spare)
        self.settings = RoundSettings(rounds, expected, gather_s=50, quorum=quorum, deadline_s=40, grace_s=15)
        self.now_s = 0.0
        self.first = max(0, rounds - left)
        self.state = begin(self.settings, self.first, self.now_s)
        self.online: set[str] = set()
        self.stored: set[tuple[str, int]] = set()
        self.closed: list[int] = []
        self.actions: list[Action] = []
        self.finishes = 0

    def feed(self, event: Event) -> tuple[Action, ...]:
        before = self.state
        self.state, actions = advance(self.state, event)
        for action in actions:
            self.check(before, action)
        self.actions.extend(actions)
        return actions

    def check(self, before: State, action: Action) -> None:
        if isinstance(action, Open):
            self.check_open(action)
        elif isinstance(action, Close):
            assert action.round == self.state.round
            assert len(action.contributors) >= self.settings.quorum
            assert all((device, action.round) in self.stored for device in action.contributors)
        elif isinstance(action, Replan):
            assert self.state.phase is Phase.OPEN
            assert action.round == self.state.round
            assert action.device in self.online
            assert self.state.parts[action.device] is Part.PENDING
        elif isinstance(action, Waiting):
            assert before.waiting != action.reason
        else:
            self.finishes += 1

    def check_open(self, action: Open) -> None:
        assert not self.state.paused
        assert action.round == self.first + len(self.closed) + 1
        assert set(action.cohort) == self.online
        gathered = self.first or self.closed or self.now_s >= self.settings.gather_s
        assert len(action.cohort) >= (self.settings.quorum if gathered else self.settings.expected)

    def close(self) -> None:
        self.closed.append(self.state.round)
        self.feed(Closed(self.now_s))

    @rule(device=st.sampled_from(DEVICES))
    def becomes_ready(self, device: str) -> None:
        self.online.add(device)
        planned = self.state.phase is Phase.OPEN and self.state.parts.get(device) is Part.PENDING
        actions = self.feed(Ready(device, self.now_s))
        assert not planned or actions == (Replan(self.state.round, device),)

    @rule(device=st.sampled_from(DEVICES))
    def is_lost(self, device: str) -> None:
        self.online.discard(device)
        self.feed(Lost(device, self.now_s))

    @rule(device=st.sampled_from(DEVICES))
    def is_expelled(self, device: str) -> None:
        self.online.discard(device)
        if self.state.phase is Phase.OPEN:
            self.stored.discard((device, self.state.round))
        self.feed(Expelled(device, self.now_s))
        assert device not in self.state.ready and device not in self.state.parts

    @rule(device=st.sampled_from(DEVICES), behind=st.sampled_from((0, 0, 0, 1)))
    def stores(self, device: str, behind: int) -> None:
        number = self.state.round - behind
        open_now = self.state.phase is Phase.OPEN and not behind and device in self.state.parts
        if open_now:
            self.stored.add((device, number))
        self.feed(Stored(device, number, self.now_s))

    @rule(device=st.sampled_from(DEVICES), behind=st.sampled_from((0, 0, 0, 1)))
    def stores_late(self, device: str, behind: int) -> None:
        number = self.state.round - behind
        if self.state.phase is Phase.OPEN and not behind:
            self.stored.add((device, number))
        self.feed(StoredLate(device, number, self.now_s))

    @rule(device=st.sampled_from(DEVICES), behind=st.sampled_from((0, 0, 0, 1)))
    def declines(self, device: str, behind: int) -> None:
        self.feed(Declined(device, self.state.round - behind, self.now_s))

    @rule(on=st.sampled_from((True, False, False)))
    def is_paused(self, on: bool) -> None:
        self.feed(Paused(on, self.now_s))

    @rule(step_s=st.floats(0.0, 30.0))
    def time_passes(self, step_s: float) -> None:
        self.now_s += step_s
        self.feed(Tick(self.now_s))

    @precondition(lambda self: self.state.phase is Phase.CLOSING)
    @rule()
    def is_aggregated(self) -> None:
        self.close()

    @precondition(lambda self: self.state.phase is Phase.CLOSING)
    @rule(damaged=st.sets(st.sampled_from(DEVICES), min_size=1))
    def is_damaged(self, damaged: set[str]) -> None:
        self.stored -= {(device, self.state.round) for device in damaged}
        dropped = tuple(sorted(device for device in damaged if device in self.state.parts))
        self.feed(Spoiled(dropped, self.state.round, self.now_s))

    @precondition(lambda self: self.state.phase is not Phase.CLOSING)
    @rule()
    def an_early_closed_changes_nothing(self) -> None:
        before = self.state
        assert self.feed(Closed(self.now_s)) == ()
        assert self.state == before

    @invariant()
    def rounds_have_no_gaps_and_the_run_ends_once(self) -> None:
        assert self.closed == list(range(self.first + 1, self.first + len(self.closed) + 1))
        assert self.finishes == (self.state.phase is Phase.FINISHED)
        assert self.state.phase is not Phase.FINISHED or self.state.round == self.settings.rounds

    def teardown(self) -> None:
        """From here on as many devices as are expected are there, and all that are ready answer: the run finishes."""
        if not hasattr(self, "state"):
            return
        self.is_paused(False)
        for device in sorted(set(DEVICES[: self.settings.expected]) - self.online):
            self.becomes_ready(device)
        for _ in range(100):
            self.time_passes(7.0)
            for device in sorted(self.online):
                if self.state.parts.get(device) is Part.PENDING:
                    self.stores(device, 0)
            if self.state.phase is Phase.CLOSING:
                self.close()
        assert self.state.phase is Phase.FINISHED
        self.rounds_have_no_gaps_and_the_run_ends_once()


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = hypothesis_settings(max_examples=200, stateful_step_count=30, deadline=None)


def test_waiting_is_no_stream() -> None:
    state, _ = play(opened(), [Stored("a", 1, 1.0)])
    _, actions = play(state, [Tick(float(now_s)) for now_s in range(2, 1000)])
    assert Counter(type(action) for action in actions) == {Waiting: 1}
