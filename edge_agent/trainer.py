"""One round of local training: state and examples in, update out. No network, and of the database only `midway`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from edge_agent.engine.protocol import Batch, Engine, Float32
from edge_agent.examples import Tokens, make_batch, shuffled
from edge_agent.importance import Float64, Scorer, make_scorer
from edge_agent.midway import Checkpoints, Midway, Tables
from edge_agent.optimizer import AdamW, Rates
from edge_agent.reading import KnownStates, Reading
from edge_agent.selection import Positions, pick, trained_positions
from edge_agent.tokenise import Tokeniser
from edge_agent.watch import Footing, Watch
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD, Layout, Mask, Rows, compact
from edge_agent.wire.state import ModelState

Report = Callable[[int, int, float], None]
"""Told of progress: step, steps, loss."""

Adjust = Callable[[Rows, Rows], Rows]
"""From the living rows and their gradients to the gradients to learn from."""


class Score(NamedTuple):
    """How many of how many examples a model got right."""

    correct: int
    total: int


@dataclass(frozen=True)
class Work:
    """What a round trains, and on what. `path` names its random draws, below the fleet's seed."""

    trained: Mask
    tokens: Tokens
    tokeniser: Tokeniser
    training: m.Training
    seed: int
    path: tuple[int | str, ...]
    prefix: KnownStates | None = None
    """Where it is given, what lies below the trained blocks is not computed again."""
    rates: Rates | None = None
    """Learning rates where they are not those of `training`."""
    adjust: Adjust | None = None
    """Changes the gradients before anything learns from them."""
    prior: Float32 | None = None
    """`(classes,)`: added to the logits while training (see `calibration`)."""
    checkpoints: Checkpoints | None = None
    """Where they are given, the round goes on from the last one, and leaves further ones behind."""

    @property
    def steps(self) -> int:
        """Optimizer steps of the round."""
        return self.training.local_steps or math.ceil(len(self.tokens) / self.training.batch_size)


@dataclass(frozen=True)
class Trained:
    """What a round of training leaves: the living rows, compacted, and the ranks' scores `(modules, slots)`."""

    rows: Rows
    trained: Mask
    scores: Float64
    steps: int
    loss: float
    step_s: float
    footing: Footing
    depth: int


def trainable(layout: Layout, mask: Mask, lowest_block: int) -> Mask:
    """The ranks of `mask` in blocks from `lowest_block` up."""
    blocks = np.array([module.block for module in layout.modules])
    return mask & (blocks >= lowest_block)[:, None]


def train(
    engine: Engine, state: ModelState, work: Work, footing: Footing, watch: Watch | None, report: Report
) -> Trained:
    """Trains the ranks of `work` and the head, from `state`, for `work.steps` steps.

    A round that was interrupted ends with the same bits, unless the watch changed the footing at another step.
    Blocks that the watch takes out on the way stop changing: their ranks count as trained with what they learned.
    Without a watch nothing limits the memory.

    Raises:
        EngineError: the loss is not finite.
        BudgetError: the budget is exceeded at the smallest footing.
    """
    return learn(engine, state, work, footing, watch, report).score()


def learn(
    engine: Engine, state: ModelState, work: Work, footing: Footing, watch: Watch | None, report: Report
) -> Learned:
    """The first part of `train`, which takes nearly all of its time; what is left is to score the ranks."""
    learner = _learner(state, work)
    before = pick(learner.rows, learner.positions)
    end = _train(engine, learner, work, _resumed(work, learner, footing), watch, report)
    return Learned(learner, before, end, work.trained, state.layout.blocks)


def rates_of(training: m.Training) -> Rates:
    """The learning rates that the fleet's settings ask for."""
    return Rates(training.lr, training.lr_e, training.lr, training.lr_head, training.weight_decay, training.epsilon)


class _Learner(NamedTuple):
    """What learns from gradients, and the living rows that it changes."""

    rows: Rows
    positions: Positions
    scorer: Scorer
    optimizer: AdamW
    adjust: Adjust | None
    prior: Float32 | None

    def tables(self) -> Tables:
        """All that a step changes, in place."""
        trained = {f"rows {name}": self.rows[name] for name in (*self.positions, HEAD)}
        return {**trained, **self.optimizer.tables(), **self.scorer.tables()}


@dataclass(frozen=True)
class Learned:
    """A round whose steps are done; `before` are the trained rows as they were."""

    learner: _Learner
    before: Rows
    end: Midway
    trained: Mask
    blocks: int

    def score(self) -> Trained:
        """Scores the ranks by what their training showed."""
        learner, end = self.learner, self.end
        scores = learner.scorer.scores(self.before, pick(learner.rows, learner.positions))
        loss, step_s = float(np.mean(end.losses)), float(np.median(end.times_s))
        depth = self.blocks - end.footing.lowest_block
        return Trained(learner.rows, self.trained, scores, end.step, loss, step_s, end.footing, depth)


def _learner(state: ModelState, work: Work) -> _Learner:
    layout, training = state.layout, work.training
    positions = trained_positions(layout, state.mask, work.trained)
    scorer = make_scorer(training.importance, layout, work.trained)
    optimizer = AdamW(layout, positions, work.rates or rates_of(training))
    return _Learner(compact(layout, state.rows, state.mask), positions, scorer, optimizer, work.adjust, work.prior)


def _resumed(work: Work, learner: _Learner, footing: Footing) -> Midway:
    """Where the round stands; the learner is brought there."""
    found = None if work.checkpoints is None else work.checkpoints.restore(learner.tables())
    if found is None:
        return Midway(0, (), (), footing)
    learner.optimizer.go_on_after(found.step)
    return found


def _train(engine: Engine, learner: _Learner, work: Work, done: Midway, watch: Watch | None, report: Report) -> Midway:
    """All steps after those that are `done`."""
    losses, times, footing, longest = list(done.losses), list(done.times_s), done.footing, 0
    drawn = shuffled(len(work.tokens), work.training.batch_size, work.steps, work.seed, *work.path)
    for step, chosen in enumerate(islice(drawn, done.step, None), done.step + 1):
        start_s = time.perf_counter()
        batch = make_batch(work.tokens, chosen, work.tokeniser)
        if batch.input_ids.shape[1] > longest:
            longest = batch.input_ids.shape[1]
            engine.give_back()  # what is laid out for shorter sequences is in the way of longer ones
        if work.prefix is not None:
            batch = work.prefix.of(batch, chosen)
        losses.append(_step(engine, batch, footing, learner))
        times.append(time.perf_counter() - start_s)
        report(step, work.steps, losses[-1])
        footing = _looked_after(engine, footing, watch)
        if work.checkpoints is not None and step < work.steps and work.checkpoints.is_due():
            work.checkpoints.keep(Midway(step, tuple(losses), tuple(times), footing), learner.tables())
    return Midway(work.steps, tuple(losses), tuple(times), footing)


def _looked_after(engine: Engine, footing: Footing, watch: Watch | None) -> Footing:
    """The footing of the next step."""
    if watch is None:
        return footing
    following = watch.after_step(footing)
    if following != footing:
        engine.give_back()
        watch.restart()
    return following


def _step(engine: Engine, batch: Batch, footing: Footing, learner: _Learner) -> float:
    """One optimizer step of the rows in place; its loss. Nothing of its gradients is left when it returns."""
    rows = learner.rows
    gradients = engine.step(
        batch,
        _calibrated(rows, learner.prior),
        lowest_block=footing.lowest_block,
        micro_batch=footing.micro_batch,
        kept_blocks=footing.kept_blocks,
    )
    found = gradients.rows if learner.adjust is None else learner.adjust(rows, gradients.rows)
    whole = _with_zeros(found, rows, (*learner.positions, HEAD))
    learner.scorer.observe(pick(rows, learner.positions), pick(whole, learner.positions))
    learner.optimizer.step(rows, found)
    return gradients.loss


def _calibrated(rows: Rows, prior: Float32 | None) -> Rows:
    """`rows` whose head has `prior` in its biases: the gradients are those of the rows themselves."""
    if prior is None:
        return rows
    head = rows[HEAD].copy()
    head[:, -1] += prior
    return {**rows, HEAD: head}


def evaluate(engine: Engine, state: ModelState, reading: Reading) -> Score:
    """How many of the examples the model of `state` gets right."""
    rows = compact(state.layout, state.rows, state.mask)
    correct = 0
    for batch in reading.batches():
        logits = engine.logits(batch, rows, micro_batch=reading.micro_batch)
        correct += int((logits.argmax(axis=1) == batch.labels).sum())
    engine.give_back()
    return Score(correct, len(reading.tokens))


def _with_zeros(gradients: Rows, rows: Rows, names: tuple[str, ...]) -> Rows:
    """Gradients of the tables `names`: zero for those that the watch took out of training."""
    return {name: gradients[name] if name in gradients else np.zeros_like(rows[name]) for name in names}
