"""A rollout puts no more devices at risk than its open groups have, stops in time, and names every device's end."""

from __future__ import annotations

import itertools
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coordinator.enrolment import rollout as r
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.updates import Facts, ReleaseOrder

PI = Facts("1.0", "aarch64", "3.11")
PC = Facts("1.0", "x86_64", "3.12")
RELEASE = r.Release(
    "agent",
    "1.1",
    (
        r.Bundle("rankfleet-agent-1.1-aarch64-cp311.tar", "a" * 64, 1000, "aarch64", "3.11"),
        r.Bundle("rankfleet-agent-1.1-x86_64-cp312.tar", "b" * 64, 2000, "x86_64", "3.12"),
    ),
)
PACK = r.Release("pack", "0123456789abcdef", (r.Bundle("rankfleet-pack-0123.tar", "c" * 64, 3000),))
TERMS = r.Terms(threshold=0.75, soak_s=100.0, silent_s=1000.0)
FOUR = ("a", "b", "c", "d")
NUMBER = 7


def ask(rollout: r.Rollout, name: str, now_s: float, facts: Facts = PI) -> tuple[r.Rollout, ReleaseOrder | None]:
    return r.ask(rollout, NUMBER, name, facts, now_s)


def installed(rollout: r.Rollout, names: str, now_s: float) -> r.Rollout:
    for name in names:
        rollout, order = ask(rollout, name, now_s)
        assert order is not None
        rollout = r.report(rollout, name, "installed", "", now_s)
    return r.tick(rollout, now_s)


def outcomes(rollout: r.Rollout) -> dict[str, r.Outcome]:
    return {name: device.outcome for name, device in rollout.devices.items()}


# --- groups ---


def test_the_same_seed_deals_the_same_groups_and_another_one_others() -> None:
    names = [f"board-{i}" for i in range(40)]
    first = r.deal(names, 1, (0.25, 1.0), "7")
    assert first == r.deal(reversed(names), 1, (0.25, 1.0), "7")
    assert first != r.deal(names, 1, (0.25, 1.0), "8")
    assert [len(group) for group in first] == [1, 9, 30]
    assert sorted(itertools.chain(*first)) == sorted(names)


def test_named_canaries_come_first() -> None:
    groups = r.deal("abcdefgh", ("c", "f"), (0.5, 1.0), "7")
    assert set(groups[0]) == {"c", "f"}
    assert [len(group) for group in groups] == [2, 2, 4]


@pytest.mark.parametrize("shares", [(), (0.5,), (0.5, 0.5, 1.0), (0.5, 0.2, 1.0), (0.0, 1.0), (0.5, 1.5)])
def test_shares_rise_to_all(shares: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="rise to 100 %"):
        r.deal("ab", 1, shares, "7")


@pytest.mark.parametrize("canaries", [0, (), ("z",)])
def test_canaries_are_devices_of_the_fleet(canaries: int | tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="canar"):
        r.deal("ab", canaries, (1.0,), "7")


def test_an_empty_fleet_has_no_rollout() -> None:
    with pytest.raises(ConfigError, match="a device at least"):
        r.deal([], 1, (1.0,), "7")


@given(st.integers(1, 60), st.integers(1, 5), st.lists(st.floats(0.01, 0.99), unique=True, max_size=4))
def test_every_device_is_dealt_once(count: int, canaries: int, shares: list[float]) -> None:
    names = [f"board-{i}" for i in range(count)]
    groups = r.deal(names, canaries, (*sorted(shares), 1.0), "7")
    assert sorted(itertools.chain(*groups)) == sorted(names)
    assert all(groups)


# --- the way of a good release ---


def test_the_next_group_opens_after_the_threshold_and_the_soak_time() -> None:
    rollout = r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0)
    assert ask(rollout, "b", 0.0)[1] is None
    rollout = installed(rollout, "a", 50.0)
    assert ask(rollout, "b", 149.0)[1] is None
    rollout, order = ask(rollout, "b", 150.0)
    assert order == ReleaseOrder(RELEASE.bundles[0].name, "a" * 64, 1000, "1.1", "agent", NUMBER)
    rollout = installed(rollout, "bcd", 160.0)
    assert rollout.phase == "done"
    assert set(outcomes(rollout).values()) == {"installed"}


def test_each_machine_gets_the_bundle_that_fits_it() -> None:
    rollout = r.start(RELEASE, TERMS, (FOUR,), 0.0)
    assert [ask(rollout, "a", 0.0, facts)[1].name for facts in (PI, PC)] == [b.name for b in RELEASE.bundles]  # type: ignore[union-attr]


def test_a_device_that_nothing_fits_is_named_and_does_not_count() -> None:
    rollout = r.start(RELEASE, TERMS, (("a", "b"), ("c", "d")), 0.0)
    rollout, order = ask(rollout, "a", 1.0, Facts("1.0", "armv7l", "3.11"))
    assert order is None
    assert rollout.devices["a"].outcome == "unfit"
    assert "armv7l with Python 3.11" in rollout.devices["a"].reason
    rollout = installed(rollout, "b", 2.0)
    assert r.tick(rollout, 102.0).opened_s == (0.0, 102.0)


def test_a_device_whose_agent_something_else_manages_does_not_count_and_is_not_asked_again() -> None:
    rollout = r.start(RELEASE, TERMS, (("a", "b"), ("c", "d")), 0.0)
    rollout, order = ask(rollout, "a", 1.0)
    assert order is not None
    rollout = r.report(rollout, "a", "unfit", "managed by apt", 2.0)
    assert (ask(rollout, "a", 3.0)[1], r.needed(rollout, 0)) == (None, (1, 1))
    rollout = installed(rollout, "b", 4.0)
    assert r.tick(rollout, 104.0).opened_s == (0.0, 104.0)
    assert ask(r.order_return(rollout, 105.0), "a", 106.0)[1] is None


def test_a_release_that_fits_no_canary_goes_no_further() -> None:
    rollout = r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0)
    rollout, _ = ask(rollout, "a", 1.0, Facts("1.0", "armv7l", "3.11"))
    assert rollout.phase == "stopped"
    assert "untried" in rollout.why


def test_a_device_that_runs_the_version_has_it_and_one_that_is_newer_is_left_alone() -> None:
    rollout = r.start(RELEASE, TERMS, (FOUR,), 0.0)
    rollout, first = ask(rollout, "a", 1.0, Facts("1.1", "aarch64", "3.11"))
    rollout, second = ask(rollout, "b", 1.0, Facts("1.10", "aarch64", "3.11"))
    assert (first, second) == (None, None)
    assert (rollout.devices["a"].outcome, rollout.devices["b"].outcome) == ("installed", "ahead")


def test_a_pack_fits_every_board_and_has_no_order_of_versions() -> None:
    rollout = r.start(PACK, TERMS, (FOUR,), 0.0)
    assert ask(rollout, "a", 0.0, Facts("9.0", "riscv64", "3.13"))[1] is not None


def test_an_order_is_repeated_until_it_is_answered() -> None:
    rollout = r.start(RELEASE, TERMS, (FOUR,), 0.0)
    rollout, first = ask(rollout, "a", 0.0)
    rollout, again = ask(rollout, "a", 5.0)
    assert first == again
    rollout = r.report(rollout, "a", "failed", "no space", 6.0)
    assert ask(rollout, "a", 7.0)[1] is None


# --- the way of a bad one ---


def test_a_canary_that_returns_stops_the_rollout_and_leaves_the_others_untouched() -> None:
    rollout, _ = ask(r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0), "a", 0.0)
    rollout = r.tick(r.report(rollout, "a", "returned", "health check failed", 5.0), 5.0)
    assert rollout.phase == "stopped"
    assert rollout.why == "group 1: 1 of 1 devices failed, returned or are silent, 1 must succeed"
    assert outcomes(rollout) == {"a": "returned", "b": "untouched", "c": "untouched", "d": "untouched"}
    assert all(ask(rollout, name, 10_000.0)[1] is None for name in FOUR)


def test_it_stops_as_soon_as_the_threshold_is_out_of_reach() -> None:
    rollout = r.start(RELEASE, TERMS, (FOUR,), 0.0)
    rollout = r.tick(r.report(rollout, "a", "failed", "", 1.0), 1.0)
    assert rollout.phase == "running"
    assert r.tick(r.report(rollout, "b", "failed", "", 2.0), 2.0).phase == "stopped"


def test_a_failure_during_the_soak_time_counts() -> None:
    rollout = installed(r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0), "a", 10.0)
    rollout = r.tick(r.report(rollout, "a", "returned", "", 50.0), 50.0)
    assert rollout.phase == "stopped"
    assert len(rollout.opened_s) == 1


def test_silence_counts_as_failure_and_a_late_report_is_still_noted() -> None:
    rollout, _ = ask(r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0), "a", 10.0)
    assert r.tick(rollout, 999.0).phase == "running"
    rollout = r.tick(rollout, 1000.0)
    assert (rollout.phase, rollout.devices["a"].outcome) == ("stopped", "silent")
    rollout = r.tick(r.report(rollout, "a", "installed", "", 2000.0), 2000.0)
    assert (rollout.phase, rollout.devices["a"].outcome) == ("stopped", "installed")


def test_a_silent_device_that_comes_back_to_a_finished_rollout_is_offered_the_release() -> None:
    rollout = installed(r.start(RELEASE, TERMS, (FOUR,), 0.0), "abc", 1.0)
    rollout = r.tick(rollout, 1000.0)
    assert (rollout.phase, rollout.devices["d"].outcome) == ("done", "silent")
    assert ask(rollout, "d", 2000.0)[1] is not None


# --- what the operator does ---


def test_a_paused_rollout_offers_nothing_and_its_pause_makes_nobody_silent() -> None:
    rollout = r.pause(r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0), 10.0)
    assert ask(rollout, "a", 20.0)[1] is None
    rollout = r.resume(r.tick(rollout, 5000.0), 5000.0)
    assert ask(rollout, "a", 5001.0)[1] is not None
    assert r.tick(rollout, 5989.0).phase == "running"
    assert r.tick(rollout, 5990.0).phase == "stopped"


def test_a_paused_rollout_stops_when_its_group_fails() -> None:
    rollout, _ = ask(r.start(RELEASE, TERMS, (("a",), ("b", "c", "d")), 0.0), "a", 0.0)
    rollout = r.pause(rollout, 1.0)
    assert r.tick(r.report(rollout, "a", "failed", "", 2.0), 2.0).phase == "stopped"


def test_whoever_has_the_release_is_sent_back_and_nobody_else() -> None:
    rollout = installed(r.start(RELEASE, TERMS, (FOUR,), 0.0), "ab", 1.0)
    rollout, _ = ask(rollout, "c", 1.0)
    rollout = r.order_return(rollout, 2.0)
    runs_it = Facts("1.1", "aarch64", "3.11")
    rollout, order = ask(rollout, "a", 3.0, runs_it)
    assert order is not None
    assert order.returns
    rollout, order = ask(rollout, "c", 3.0)  # was offered it, and has not installed it
    assert order is None
    assert ask(rollout, "d", 3.0)[1] is None
    for name in "ab":
        rollout = r.tick(r.report(rollout, name, "returned", "", 4.0), 4.0)
    assert (rollout.phase, rollout.devices["d"].outcome) == ("returned", "untouched")


def test_a_return_that_failed_is_ordered_again() -> None:
    rollout = r.order_return(installed(r.start(RELEASE, TERMS, (FOUR,), 0.0), "a", 1.0), 2.0)
    rollout = r.report(rollout, "a", "failed", "no release before this one", 3.0)
    order = ask(rollout, "a", 4.0, Facts("1.1", "aarch64", "3.11"))[1]
    assert order is not None
    assert order.returns


@pytest.mark.parametrize("change", [r.resume, r.stop, r.pause])
def test_a_stopped_rollout_does_not_start_again(change: object) -> None:
    rollout = r.stop(r.start(RELEASE, TERMS, (FOUR,), 0.0), 1.0)
    with pytest.raises(ConfigError, match="this one is stopped"):
        change(rollout, 2.0)  # type: ignore[operator]


# --- the order of reports ---

Said = tuple[str, Literal["installed", "returned", "failed"], str]
SAID = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["installed", "returned", "failed"]), st.sampled_from("xy")),
    max_size=12,
)


@given(SAID.flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))), st.floats(0.1, 1.0))
def test_the_order_of_reports_does_not_matter(both: tuple[list[Said], list[Said]], threshold: float) -> None:
    ends = []
    for said in both:
        rollout = r.start(RELEASE, r.Terms(threshold, 10.0, 1000.0), (("a", "b"), ("c", "d", "e", "f")), 0.0)
        for name, outcome, reason in said:
            rollout = r.report(rollout, name, outcome, reason, 5.0)
        ends.append(r.tick(rollout, 5.0))
    assert ends[0] == ends[1]


@given(SAID.flatmap(lambda said: st.tuples(st.just(said), st.permutations(said))), st.floats(0.1, 1.0))
def test_nor_does_it_when_the_clock_ticks_in_between(both: tuple[list[Said], list[Said]], threshold: float) -> None:
    ends = []
    for said in both:
        rollout = r.start(RELEASE, r.Terms(threshold, 10.0, 1000.0), (tuple("abcdef"),), 0.0)
        for name, outcome, reason in said:
            rollout = r.tick(r.report(rollout, name, outcome, reason, 5.0), 5.0)
        ends.append(rollout)
    assert outcomes(ends[0]) == outcomes(ends[1]) or "stopped" in (ends[0].phase, ends[1].phase)
    final = [{n: o for n, o in outcomes(end).items() if o not in ("untouched", "pending")} for end in ends]
    assert final[0] == final[1]
    if "done" not in (ends[0].phase, ends[1].phase):
        assert ends[0].phase == ends[1].phase


# --- anything at all ---


class Rollouts(RuleBasedStateMachine):
    """Devices ask and report, the operator turns wheels, time passes, in any order."""

    @initialize(
        count=st.integers(1, 8),
        shares=st.sampled_from([(1.0,), (0.5, 1.0), (0.25, 0.5, 1.0)]),
        threshold=st.sampled_from([0.5, 0.75, 0.9, 1.0]),
        soak_s=st.sampled_from([0.0, 50.0]),
    )
    def begin(self, count: int, shares: tuple[float, ...], threshold: float, soak_s: float) -> None:
        self.names = [f"board-{i}" for i in range(count)]
        self.now_s, self.offered, self.unfit = 0.0, set[str](), set[str]()
        groups = r.deal(self.names, 1, shares, "7")
        self.rollout = r.start(RELEASE, r.Terms(threshold, soak_s, 500.0), groups, 0.0)

    @rule(data=st.data(), facts=st.sampled_from([PI, PI, PC, Facts("1.0", "armv7l", "3.9")]))
    def a_device_asks(self, data: st.DataObject, facts: Facts) -> None:
        name = data.draw(st.sampled_from(self.names))
        before = r.tick(self.rollout, self.now_s)
        self.rollout, order = ask(self.rollout, name, self.now_s, facts)
        if order is not None:
            assert before.phase in ("running", "done")
            assert name in r.open_devices(before)
            self.offered.add(name)

    @precondition(lambda self: self.offered)
    @rule(data=st.data(), outcome=st.sampled_from(["installed", "installed", "installed", "returned", "failed"]))
    def a_device_reports(self, data: st.DataObject, outcome: Literal["installed", "returned", "failed"]) -> None:
        name = data.draw(st.sampled_from(sorted(self.offered)))
        self.rollout = r.tick(r.report(self.rollout, name, outcome, "", self.now_s), self.now_s)

    @rule(passed_s=st.sampled_from([1.0, 60.0, 600.0]))
    def time_passes(self, passed_s: float) -> None:
        self.now_s += passed_s
        self.rollout = r.tick(self.rollout, self.now_s)

    @rule(change=st.sampled_from([r.pause, r.resume, r.resume, r.stop, r.order_return]))
    def the_operator_acts(self, change: object) -> None:
        try:
            self.rollout = change(self.rollout, self.now_s)  # type: ignore[operator]
        except ConfigError:
            assert change is not r.pause or self.rollout.phase != "running"

    @invariant()
    def only_devices_of_open_groups_are_at_risk(self) -> None:
        at_risk = {name for name, device in self.rollout.devices.items() if device.offered}
        assert at_risk == self.offered
        assert at_risk <= r.open_devices(self.rollout)

    @invariant()
    def each_group_opened_on_the_success_of_the_one_before(self) -> None:
        opened_s = self.rollout.opened_s
        assert list(opened_s) == sorted(opened_s)
        for before, after in itertools.pairwise(opened_s):
            assert after >= before + self.rollout.terms.soak_s

    @invariant()
    def a_rollout_whose_open_groups_fail_goes_no_further(self) -> None:
        if self.rollout.phase != "running":
            return
        for group in range(len(self.rollout.opened_s)):
            least, counted = r.needed(self.rollout, group)
            members = [self.rollout.devices[name] for name in self.rollout.groups[group]]
            assert counted - sum(d.outcome in ("failed", "returned", "silent") for d in members) >= least

    @invariant()
    def whoever_only_reads_sees_the_same(self) -> None:
        assert r.tick(self.rollout, self.now_s) == self.rollout

    def teardown(self) -> None:
        """Left alone for long enough, every device has an outcome."""
        if not hasattr(self, "rollout"):
            return
        if self.rollout.phase == "paused":
            self.rollout = r.resume(self.rollout, self.now_s)
        for step in range(1, 13):
            self.rollout = r.tick(self.rollout, self.now_s + 1000.0 * step)
        assert "pending" not in outcomes(self.rollout).values()
        assert self.rollout.phase != "running"


Rollouts.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestRollouts = Rollouts.TestCase
