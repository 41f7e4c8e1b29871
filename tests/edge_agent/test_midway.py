"""A round that is interrupted and goes on ends with the same bits as one that is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import jobs
from edge_agent.importance import RULES
from edge_agent.midway import Checkpoints, Midway, round_key
from edge_agent.store import Store
from edge_agent.trainer import Trained, Work, train
from edge_agent.update import Part, make_update
from edge_agent.watch import Footing, Watch
from edge_agent.wire import codec
from edge_agent.wire.cost import ChosenPlan
from edge_agent.wire.quantise import find_scheme
from edge_agent.workspace import Workspace
from tests.agents import TRAINING, make_terms, plan_for, seed_state
from tests.runs import CAPABILITY, make_state

STEPS = 7
KEY = b"this round"
FOOTING = Footing(4, 0)
STATE = make_state(1)


class PulledPlugError(Exception):
    """The power is gone."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(make_terms(tmp_path_factory.mktemp("agent")))


@pytest.fixture(scope="module")
def whole(space: Workspace) -> Trained:
    """What a round leaves that nobody interrupted."""
    return trained(space, work_of(space))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "own.db")
    yield store
    store.close()


def work_of(space: Workspace, rule: str = "sensitivity", checkpoints: Checkpoints | None = None) -> Work:
    """More steps than an epoch has batches, so that one of them begins anew."""
    tokens, _ = space.examples(space.max_tokens)
    training = msgspec.structs.replace(TRAINING, local_steps=STEPS, importance=rule)
    tokeniser = space.tokeniser(space.max_tokens)
    return Work(STATE.mask, tokens, tokeniser, training, 7, ("pi-1", 1), checkpoints=checkpoints)


def trained(space: Workspace, work: Work, until: int = STEPS, watch: Watch | None = None) -> Trained:
    """What training leaves; it ends before its end at the step `until`."""

    def report(step: int, steps: int, loss: float) -> None:
        if step > until:
            raise PulledPlugError

    return train(space.engine, STATE, work, FOOTING, watch, report)


def interrupted(space: Workspace, work: Work, until: int) -> None:
    with pytest.raises(PulledPlugError):
        trained(space, work, until)


def encoded(outcome: Trained) -> bytes:
    """The update, as it is sent."""
    part = Part(1, STATE.mask, int(STATE.mask.sum()), 24, find_scheme("int8"))
    made, _ = make_update(part, STATE, outcome.rows, outcome.scores, STATE.layout.empty_rows())
    return codec.encode_update(made, STATE.layout)


def every(steps: int) -> Callable[[], float]:
    """A clock by which a checkpoint is due after so many steps: it is read when one begins, is looked for, was kept."""
    ticks = iter(range(10**6))
    return lambda: next(ticks) / steps


@pytest.mark.parametrize("rule", RULES)
def test_a_round_interrupted_at_every_step_gives_the_same_update(space: Workspace, store: Store, rule: str) -> None:
    whole = trained(space, work_of(space, rule))
    for step in range(STEPS):
        interrupted(space, work_of(space, rule, Checkpoints(store, KEY, 0.0)), step)
    resumed = trained(space, work_of(space, rule, Checkpoints(store, KEY, 0.0)))
    assert encoded(resumed) == encoded(whole)
    assert (resumed.scores == whole.scores).all() and resumed.loss == whole.loss
    assert all((resumed.rows[name] == whole.rows[name]).all() for name in whole.rows)


@settings(deadline=None, max_examples=20)
@given(until=st.integers(0, STEPS - 1), steps=st.integers(1, STEPS))
def test_it_goes_on_from_the_last_checkpoint_wherever_it_was_interrupted(
    space: Workspace, whole: Trained, tmp_path_factory: pytest.TempPathFactory, until: int, steps: int
) -> None:
    store = Store(tmp_path_factory.mktemp("run") / "own.db")
    interrupted(space, work_of(space, checkpoints=Checkpoints(store, KEY, 1.0, every(steps))), until)
    head = store.midway()
    resumed = trained(space, work_of(space, checkpoints=Checkpoints(store, KEY, 1.0, lambda: 0.0)))
    assert (head is None) == (until < steps)
    assert encoded(resumed) == encoded(whole)
    assert resumed.loss == whole.loss
    store.close()


def test_steps_before_the_checkpoint_are_not_made_again(space: Workspace, store: Store) -> None:
    interrupted(space, work_of(space, checkpoints=Checkpoints(store, KEY, 0.0)), 4)
    seen: list[int] = []
    work = work_of(space, checkpoints=Checkpoints(store, KEY, 0.0))
    train(space.engine, STATE, work, FOOTING, None, lambda step, steps, loss: seen.append(step))
    assert seen == [5, 6, 7]


def test_what_was_kept_of_another_round_is_not_used(space: Workspace, whole: Trained, store: Store) -> None:
    interrupted(space, work_of(space, checkpoints=Checkpoints(store, b"another", 0.0)), 4)
    assert Checkpoints(store, KEY, 0.0).restore({}) is None
    resumed = trained(space, work_of(space, checkpoints=Checkpoints(store, KEY, 1e9)))
    assert encoded(resumed) == encoded(whole)


@pytest.mark.parametrize("table", ["", "rows head", "smooth"])
def test_a_damaged_checkpoint_starts_the_round_again(
    space: Workspace, whole: Trained, store: Store, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(space, work_of(space, checkpoints=Checkpoints(store, KEY, 0.0)), 4)
    with store._transaction() as db:
        (body,) = db.execute("SELECT body FROM midway WHERE name = ?", (table,)).fetchone()
        db.execute("UPDATE midway SET body = ? WHERE name = ?", (bytes([body[0] ^ 1]) + body[1:], table))
    resumed = trained(space, work_of(space, checkpoints=Checkpoints(store, KEY, 1e9)))
    assert "damaged" in caplog.text
    assert encoded(resumed) == encoded(whole)


def test_it_goes_on_with_the_footing_that_it_had(space: Workspace, store: Store) -> None:
    class SteppingDown:
        def after_step(self, footing: Footing) -> Footing:
            return Footing(2, 1)

        def restart(self) -> None:
            """There is no peak to forget."""

    watch = cast(Watch, SteppingDown())
    with pytest.raises(PulledPlugError):
        trained(space, work_of(space, checkpoints=Checkpoints(store, KEY, 0.0)), 3, watch)
    resumed = trained(space, work_of(space, checkpoints=Checkpoints(store, KEY, 0.0)))
    assert resumed.footing == Footing(2, 1)


def test_nothing_is_kept_before_it_is_due(store: Store) -> None:
    now_s = [0.0]
    checkpoints = Checkpoints(store, KEY, 60.0, lambda: now_s[0])
    now_s[0] = 59.0
    assert not checkpoints.is_due()
    now_s[0] = 60.0
    assert checkpoints.is_due()
    checkpoints.keep(Midway(1, (0.5,), (0.1,), FOOTING), {"rows": np.ones(3, np.float32)})
    assert not checkpoints.is_due()
    now_s[0] = 120.0
    assert checkpoints.is_due()


def test_what_is_not_restored_is_not_touched(store: Store) -> None:
    table = np.ones(3, np.float32)
    Checkpoints(store, KEY, 0.0).keep(Midway(1, (), (), FOOTING), {"rows": 2 * table})
    assert Checkpoints(store, b"another", 0.0).restore({"rows": table}) is None
    assert (table == 1).all()
    assert Checkpoints(store, KEY, 0.0).restore({"rows": table}) == Midway(1, (), (), FOOTING)
    assert (table == 2).all()


PLAN = ChosenPlan(4, 0, 16, 0, 1, 1.0)


def test_a_round_has_the_same_key_in_every_process_and_another_for_all_that_changes_its_training(
    space: Workspace,
) -> None:
    tokens, holdout = space.examples(space.max_tokens)
    terms = space.terms
    job = jobs.TrainJob(terms, plan_for(seed_state()), (), CAPABILITY)
    known = round_key(job, PLAN, tokens)
    assert round_key(msgspec.json.decode(msgspec.json.encode(job), type=jobs.TrainJob), PLAN, tokens) == known
    same = msgspec.structs.replace(job, plan=msgspec.structs.replace(job.plan, deadline_s=1.0))
    assert round_key(same, PLAN, tokens) == known
    others = [
        round_key(job, replace(PLAN, micro_batch=2), tokens),
        round_key(job, PLAN, holdout),
        round_key(msgspec.structs.replace(job, plan=msgspec.structs.replace(job.plan, round=9)), PLAN, tokens),
        round_key(msgspec.structs.replace(job, terms=msgspec.structs.replace(terms, products="int8")), PLAN, tokens),
    ]
    assert len({known, *others}) == 1 + len(others)
    assert all(len(key) == hashlib.sha256().digest_size for key in others)
