from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.meter import Account, PhaseMeter, TrafficMeter
from edge_agent.wire.link import Traffic

STEPS = st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9), st.booleans()), max_size=20)


@given(steps=STEPS)
def test_every_byte_is_booked_once_on_its_account(steps: list[tuple[int, int, bool]]) -> None:
    meter, total = TrafficMeter(Account()), Traffic(0, 0)
    for up, down, pack in steps:
        total = Traffic(total.bytes_up + up, total.bytes_down + down)
        meter.take(total, pack=pack)
        meter.take(total, pack=not pack)
    account = meter.account
    assert account.bytes_up == sum(up for up, _, pack in steps if not pack)
    assert account.pack_bytes_down == sum(down for _, down, pack in steps if pack)
    assert account.bytes_up + account.pack_bytes_up == total.bytes_up
    assert account.bytes_down + account.pack_bytes_down == total.bytes_down


def test_a_new_link_counts_from_zero_and_the_account_goes_on() -> None:
    meter = TrafficMeter(Account(bytes_up=5))
    meter.take(Traffic(10, 20), pack=False)
    meter.restart()
    meter.take(Traffic(3, 4), pack=False)
    assert meter.account == Account(bytes_up=18, bytes_down=24)


def test_a_link_that_does_not_tell_is_not_booked() -> None:
    meter = TrafficMeter(Account())
    meter.take(None, pack=False)
    assert meter.account == Account()


def test_phases_follow_each_other_and_those_of_one_name_add_up() -> None:
    meter = PhaseMeter()
    start_s = time.monotonic()
    for name in ("load", "train", "load", ""):
        meter.enter(name)
    total_s = time.monotonic() - start_s
    phases = meter.drain()
    assert [phase.name for phase in phases] == ["load", "train"]
    assert 0 < sum(phase.wall_s for phase in phases) <= total_s
    assert all(phase.rss_bytes >= phase.anonymous_bytes > 0 and phase.cpu_s >= 0 for phase in phases)


def test_phases_are_told_once_and_the_present_one_goes_on() -> None:
    meter = PhaseMeter()
    meter.enter("load")
    assert meter.drain() == ()
    meter.enter("")
    assert [phase.name for phase in meter.drain()] == ["load"]
    assert meter.drain() == ()
