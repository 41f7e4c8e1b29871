"""The real coordinator and real agents under any interleaving of faults that Hypothesis draws."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machines import mutations
from tests.machines.interleavings import Interleavings

pytestmark = pytest.mark.timeout(900)  # a failure is shrunk to its shortest history first, which takes minutes
SETTINGS = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def test_whatever_happens_nothing_is_lost_or_counted_twice_and_the_run_ends() -> None:
    run_state_machine_as_test(Interleavings, settings=SETTINGS)


@pytest.mark.slow
def test_the_same_in_more_and_longer_histories() -> None:
    run_state_machine_as_test(Interleavings, settings=settings(SETTINGS, max_examples=200, stateful_step_count=50))


@pytest.mark.parametrize(
    ("bug", "noticed"),
    [
        (mutations.acknowledged_before_it_is_stored, "acknowledged, and not on disk"),
        (mutations.one_update_counted_twice, "another mean"),
        (mutations.outbox_dropped_at_a_reconnection, "dropped its update"),
    ],
)
def test_a_planted_bug_is_found(bug: Callable[[], AbstractContextManager[Any]], noticed: str) -> None:
    with bug(), pytest.raises(AssertionError, match=noticed):
        run_state_machine_as_test(Interleavings, settings=settings(SETTINGS, max_examples=150, phases=[Phase.generate]))
