"""The session and the round without their shells, under any order of messages, deaths and time (see `pure`)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machines import mutations
from tests.machines.pure import Histories

pytestmark = pytest.mark.timeout(900)  # a failure is shrunk to its shortest history first, which takes minutes
SETTINGS = settings(
    max_examples=150,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def test_in_any_history_every_update_counts_once_and_nothing_waits_for_ever() -> None:
    run_state_machine_as_test(Histories, settings=SETTINGS)


@pytest.mark.slow
def test_the_same_in_more_and_longer_histories() -> None:
    run_state_machine_as_test(Histories, settings=settings(SETTINGS, max_examples=1000, stateful_step_count=80))


@pytest.mark.parametrize(
    ("bug", "noticed"),
    [
        pytest.param(
            mutations.an_update_of_another_round_taken,
            "counted, and not stored|not in the model",
            marks=pytest.mark.slow,
        ),
        (mutations.a_restart_forgets_what_is_stored, "two updates of a device|not in the model"),
        (mutations.nobody_asked_again, "the run does not end"),
        (mutations.outbox_dropped_at_a_reconnection, "dropped without an answer"),
    ],
)
def test_a_planted_bug_is_found(bug: Callable[[], AbstractContextManager[Any]], noticed: str) -> None:
    many = settings(SETTINGS, max_examples=2000, phases=[Phase.generate])  # it ends with the first that finds it
    with bug(), pytest.raises(AssertionError, match=noticed):
        run_state_machine_as_test(Histories, settings=many)
