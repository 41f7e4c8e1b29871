from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.guard import BURST_S, Bucket, clipped, root_mean_square, take
from edge_agent.wire.codec import Update
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Module
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import quantise_rows

LAYOUT = Layout((Module("low", 0, 6, 4),), slots=3, classes=2, d_model=4)


def an_update(sigma: float, scheme: str = "fp32") -> Update:
    trained = LAYOUT.full_mask()
    change = {name: generator(5, name).gaussian(t.shape, sigma) for name, t in LAYOUT.empty_rows().items()}
    row_set, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), trained, SCHEMES[scheme])
    return Update(1, 0, 50, trained, np.zeros(trained.shape, dtype=np.float32), row_set)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_what_is_too_large_is_scaled_to_the_limit_and_keeps_its_direction(scheme: str) -> None:
    update = an_update(3.0, scheme)
    small = clipped(update, 0.5)
    assert root_mean_square(small) == pytest.approx(0.5, rel=2e-3)
    rows, before = small.changes.rows(), update.changes.rows()
    for name in rows:
        np.testing.assert_allclose(rows[name], before[name] * (0.5 / root_mean_square(update)), rtol=2e-3, atol=1e-6)


def test_what_is_within_the_limit_is_left_as_it_is() -> None:
    update = an_update(0.1)
    assert clipped(update, 1.0) is update


def test_an_update_that_changes_nothing_has_no_size() -> None:
    nothing = {HEAD: np.zeros((2, 5), np.float32), "low": np.zeros((0, 11), np.float32)}
    row_set, _ = quantise_rows(LAYOUT, nothing, LAYOUT.empty_rows(), LAYOUT.full_mask() & False, SCHEMES["int8"])
    assert root_mean_square(Update(1, 0, 1, LAYOUT.full_mask(), np.zeros((1, 3), np.float32), row_set)) == 0


def admitted(times_s: list[float], rate: float) -> int:
    bucket, count = None, 0
    for now_s in times_s:
        bucket = take(bucket, now_s, rate)
        count += not bucket.flooding
    return count


@given(st.lists(st.floats(0, 100), max_size=300), st.floats(0.5, 20))
def test_nobody_gets_through_more_than_the_burst_and_the_rate_allow(times_s: list[float], rate: float) -> None:
    times_s = sorted(times_s)
    span_s = times_s[-1] - times_s[0] if times_s else 0.0
    assert admitted(times_s, rate) <= rate * (BURST_S + span_s) + 1e-6


@given(st.floats(1, 20))
def test_who_keeps_to_the_rate_is_never_dropped(rate: float) -> None:
    times_s = [number / rate * 1.001 for number in range(500)]
    assert admitted(times_s, rate) == len(times_s)


def test_a_flood_ends_when_the_device_has_been_quiet() -> None:
    bucket: Bucket | None = None
    for _ in range(25):
        bucket = take(bucket, 0.0, 2.0)
    assert bucket is not None and bucket.flooding
    assert not take(bucket, 1.0, 2.0).flooding
