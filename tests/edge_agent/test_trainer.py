"""A round of training on the tiny pack, whose classes its texts tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import msgspec
import numpy as np
import pytest

from edge_agent.calibration import log_prior
from edge_agent.examples import Tokens, make_batch, shuffled
from edge_agent.optimizer import Rates
from edge_agent.reading import Reading
from edge_agent.trainer import Adjust, Score, Trained, Work, evaluate, rates_of, train, trainable
from edge_agent.watch import Footing, Watch
from edge_agent.wire.ranks import HEAD, Mask, Rows, compact
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace
from tests.agents import TRAINING, make_terms, seed_state
from tests.models import BLOCKS
from tests.runs import make_state

STEPS = 4


class Footings:
    """A watch that gives the footings it was told to, and then the last one again."""

    def __init__(self, *footings: Footing) -> None:
        self._footings = list(footings)

    def after_step(self, footing: Footing) -> Footing:
        return self._footings.pop(0) if self._footings else footing

    def restart(self) -> None:
        """There is no peak to forget."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(make_terms(tmp_path_factory.mktemp("agent")))


def work_of(space: Workspace, trained: Mask, steps: int = STEPS) -> Work:
    tokens, _ = space.examples(space.max_tokens)
    training = msgspec.structs.replace(TRAINING, local_steps=steps)
    return Work(trained, tokens, space.tokeniser(space.max_tokens), training, 7, ("pi-1", 1))


def trained_from(
    space: Workspace, state: ModelState, work: Work, footing: Footing | None = None, then: Sequence[Footing] = ()
) -> tuple[Trained, list[float]]:
    """What training leaves, and the loss of every step."""
    losses: list[float] = []
    watch = cast(Watch, Footings(*then))
    footing = footing or Footing(4, 0)
    outcome = train(space.engine, state, work, footing, watch, lambda step, steps, loss: losses.append(loss))
    return outcome, losses


def distance(one: Rows, other: Rows) -> float:
    return max(float(np.abs(one[name] - other[name]).max(initial=0)) for name in one)


def test_the_same_round_gives_the_same_bits(space: Workspace) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    one, other = (trained_from(space, state, work)[0] for _ in range(2))
    assert distance(one.rows, other.rows) == 0
    assert (one.scores == other.scores).all() and one.loss == other.loss


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_the_result_does_not_depend_on_the_micro_batch(space: Workspace, micro_batch: int) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    one, other = (trained_from(space, state, work, Footing(size, 0))[0] for size in (4, micro_batch))
    assert distance(one.rows, other.rows) < 1e-5
    assert one.loss == pytest.approx(other.loss, abs=1e-5)


@pytest.mark.parametrize("kept_blocks", [1, BLOCKS])
def test_the_result_does_not_depend_on_what_is_kept(space: Workspace, kept_blocks: int) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    one, other = (trained_from(space, state, work, Footing(4, 0, kept))[0] for kept in (0, kept_blocks))
    assert distance(one.rows, other.rows) < 1e-5


def test_giving_up_what_is_kept_changes_nothing_else(space: Workspace) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    one, _ = trained_from(space, state, work, Footing(4, 0, 2), then=[Footing(4, 0, 2), Footing(4, 0), Footing(2, 0)])
    other, _ = trained_from(space, state, work)
    assert distance(one.rows, other.rows) < 1e-5
    assert (one.depth, one.footing) == (BLOCKS, Footing(2, 0))


def test_ranks_that_are_not_trained_stay_as_they_are(space: Workspace) -> None:
    state = make_state(1)
    chosen = trainable(space.layout, state.mask, 1)
    chosen[-1] = False
    before = compact(space.layout, state.rows, state.mask)
    outcome, _ = trained_from(space, state, work_of(space, chosen))
    for index, module in enumerate(space.layout.modules):
        same = (before[module.name] == outcome.rows[module.name]).all(axis=1)
        assert (same == ~chosen[index][state.mask[index]]).all(), module.name
    assert (outcome.scores[~chosen] == 0).all()
    assert distance({HEAD: before[HEAD]}, {HEAD: outcome.rows[HEAD]}) > 0


def test_the_state_that_it_starts_from_is_not_written(space: Workspace) -> None:
    state, same = make_state(1), make_state(1)
    trained_from(space, state, work_of(space, state.mask))
    assert distance(state.rows, same.rows) == 0


def test_the_loss_falls_and_the_texts_are_learned(space: Workspace) -> None:
    state = seed_state()
    work = work_of(space, state.mask, steps=60)
    outcome, losses = trained_from(space, state, work)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) / 2
    learned = replace(state, rows={name: outcome.rows[name] for name in state.rows})
    before, after = (evaluate(space.engine, s, Reading(work.tokens, work.tokeniser, 16, 4)) for s in (state, learned))
    assert before.total == after.total == len(work.tokens)
    assert after.correct > before.correct


def test_blocks_that_the_watch_takes_out_rest_from_then_on(space: Workspace) -> None:
    """Neither momentum nor weight decay moves them."""
    state = make_state(1)
    once, _ = trained_from(space, state, work_of(space, state.mask, steps=1))
    outcome, _ = trained_from(space, state, work_of(space, state.mask), then=[Footing(4, 2)])
    rested = {m.name: outcome.rows[m.name] for m in space.layout.modules if m.block < 2}
    went_on = {m.name: outcome.rows[m.name] for m in space.layout.modules if m.block == 2}
    assert distance(rested, once.rows) == 0
    assert distance(went_on, once.rows) > 0
    assert (outcome.depth, outcome.footing) == (1, Footing(4, 2))


def test_without_a_watch_the_footing_stays_and_the_result_is_the_same(space: Workspace) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    watched, _ = trained_from(space, state, work)
    outcome = train(space.engine, state, work, Footing(4, 0), None, lambda *_: None)
    assert distance(outcome.rows, watched.rows) == 0
    assert (outcome.footing, outcome.depth) == (Footing(4, 0), BLOCKS)


def test_the_rates_of_the_work_take_the_place_of_the_settings(space: Workspace) -> None:
    state = make_state(1)
    before, work = compact(state.layout, state.rows, state.mask), work_of(space, state.mask)
    same, _ = trained_from(space, state, replace(work, rates=rates_of(work.training)))
    assert distance(same.rows, trained_from(space, state, work)[0].rows) == 0
    outcome, _ = trained_from(space, state, replace(work, rates=Rates(0, 0, 1e-3, 0, 0.01, 1e-8)))
    assert distance({HEAD: before[HEAD]}, {HEAD: outcome.rows[HEAD]}) == 0
    for module in space.layout.modules:
        moved = before[module.name] != outcome.rows[module.name]
        assert not moved[:, : module.d_in + 1].any()
        assert moved[:, module.d_in + 1 :].any() == bool(len(moved))


def noting(seen: list[Rows]) -> Adjust:
    """Changes no gradient, and notes what it is given."""

    def adjust(rows: Rows, gradients: Rows) -> Rows:
        seen.append({name: table.copy() for name, table in gradients.items()})
        return gradients

    return adjust


def test_all_that_learns_learns_from_the_adjusted_gradients(space: Workspace) -> None:
    state = make_state(1)
    work = work_of(space, state.mask)
    work = replace(work, training=msgspec.structs.replace(work.training, importance="sensitivity"))
    rested = replace(work, adjust=lambda rows, gradients: {name: 0 * table for name, table in gradients.items()})
    outcome, losses = trained_from(space, state, replace(rested, rates=replace(rates_of(TRAINING), weight_decay=0)))
    assert distance(compact(state.layout, state.rows, state.mask), outcome.rows) == 0
    assert not outcome.scores.any()
    assert len(losses) == STEPS and losses[0] > 0


def test_the_rows_that_are_adjusted_for_are_those_that_train(space: Workspace) -> None:
    state = make_state(1)
    given: list[Rows] = []

    def adjust(rows: Rows, gradients: Rows) -> Rows:
        given.append({name: table.copy() for name, table in rows.items()})
        return gradients

    outcome, _ = trained_from(space, state, replace(work_of(space, state.mask), adjust=adjust))
    assert distance(given[0], compact(state.layout, state.rows, state.mask)) == 0
    assert 0 < distance(given[-1], given[0]) <= STEPS * distance(given[1], given[0]) * 2
    assert distance(outcome.rows, given[-1]) > 0


def test_a_prior_shifts_the_biases_for_the_gradients_and_stays_out_of_the_rows(space: Workspace) -> None:
    state, seen = make_state(1), list[Rows]()
    prior = log_prior(np.array([0, 0, 0, 1], np.int32), space.layout.classes, 1.0)
    work = replace(work_of(space, state.mask, steps=1), prior=prior, adjust=noting(seen))
    outcome, losses = trained_from(space, state, replace(work, rates=Rates(0, 0, 0, 0, 0, 1e-8)))
    before = compact(state.layout, state.rows, state.mask)
    assert distance(before, outcome.rows) == 0
    (chosen,) = shuffled(len(work.tokens), TRAINING.batch_size, 1, work.seed, *work.path)
    shifted = {**before, HEAD: before[HEAD].copy()}
    shifted[HEAD][:, -1] += prior
    batch = make_batch(work.tokens, chosen, work.tokeniser)
    expected = space.engine.step(batch, shifted, lowest_block=0, micro_batch=4)
    assert losses == [expected.loss]
    assert distance(seen[0], expected.rows) == 0


def test_a_device_of_one_class_learns_next_to_nothing_where_the_loss_is_calibrated(space: Workspace) -> None:
    state, plain, calibrated = seed_state(), list[Rows](), list[Rows]()
    work = work_of(space, state.mask, steps=1)
    tokens = Tokens(work.tokens.ids, np.zeros_like(work.tokens.labels))
    prior = log_prior(tokens.labels, space.layout.classes, 1.0)
    trained_from(space, state, replace(work, tokens=tokens, adjust=noting(plain)))
    trained_from(space, state, replace(work, tokens=tokens, prior=prior, adjust=noting(calibrated)))
    largest = [max(np.abs(table).max(initial=0) for table in one[0].values()) for one in (plain, calibrated)]
    assert largest[1] < 1e-3
    assert largest[0] > 0.1


def test_every_rule_of_importance_scores_what_was_trained(space: Workspace) -> None:
    state = make_state(1)
    for rule in ("magnitude", "sensitivity", "energy"):
        work = work_of(space, state.mask)
        work = replace(work, training=msgspec.structs.replace(work.training, importance=rule))
        outcome, _ = trained_from(space, state, work)
        assert (outcome.scores[state.mask] > 0).all() and (outcome.scores[~state.mask] == 0).all()


def test_without_a_number_of_steps_a_round_is_one_epoch(space: Workspace) -> None:
    work = work_of(space, seed_state().mask, steps=0)
    assert work.steps == -(-len(work.tokens) // TRAINING.batch_size)


def test_a_model_without_examples_to_judge_it_by_has_no_score(space: Workspace) -> None:
    nothing = Tokens((), np.zeros(0, np.int32))
    assert evaluate(space.engine, seed_state(), Reading(nothing, space.tokeniser(16), 1, 1)) == Score(0, 0)


def test_trainable_ranks_lie_at_or_above_the_lowest_block(space: Workspace) -> None:
    mask = space.layout.full_mask()
    for lowest in range(space.layout.blocks + 1):
        chosen = trainable(space.layout, mask, lowest)
        assert {space.layout.modules[i].block for i in np.flatnonzero(chosen.any(axis=1))} == set(
            range(lowest, space.layout.blocks)
        )
