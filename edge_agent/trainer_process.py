"""The short-lived trainer process: one job from standard input, its result on standard output (see `jobs`)."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from edge_agent import jobs, memory, update
from edge_agent.calibration import log_prior
from edge_agent.class_statistics import class_statistics
from edge_agent.examples import Tokens
from edge_agent.measure import Bench, measure
from edge_agent.meter import PhaseMeter
from edge_agent.midway import Checkpoints, round_key
from edge_agent.planning import choose_plan
from edge_agent.privacy import private_files, trace
from edge_agent.reading import Reading
from edge_agent.spans import JobPhases, Span
from edge_agent.store import Outgoing
from edge_agent.trainer import Report, Score, Trained, Work, evaluate, learn, train, trainable
from edge_agent.watch import Footing, Watch
from edge_agent.wire import codec, cost, crash_points, quantise
from edge_agent.wire import messages as m
from edge_agent.wire.class_statistics import update_layout
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import BudgetError, DataError, RankfleetError
from edge_agent.wire.ranks import Layout, Mask, Rows, unpack_mask
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace, check_digest

LOGGER = logging.getLogger("rankfleet.trainer")
REPORT_EVERY_S = 1.0
MEASURED_STEPS = 2
NAMED_PERCENT = 101
UNLIMITED_BYTES = 2**62


def main() -> int:
    """Runs the job on standard input; exit status 0 if its result or failure was told."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=jobs.AnyJob)
    crash_points.reach(Point.TRAINER_STARTED)
    threading.Thread(target=_end_with_the_supervisor, daemon=True).start()
    phases = JobPhases(PhaseMeter(os.getppid()), _tell if job.terms.records else None)
    try:
        with private_files():
            result = _RUN[type(job)](job, phases)
            phases.enter("")
            _say(result)
    except RankfleetError as error:
        smallest = error.smallest_budget_bytes if isinstance(error, BudgetError) else None
        told = error.told if isinstance(error, DataError) else None
        _say(jobs.Failure(str(error), smallest, told=told))
    except MemoryError:
        _say(jobs.Failure("the system refused memory to the trainer process: lower memory.budget_bytes"))
    except Exception as error:  # its message may hold a text
        LOGGER.critical("an error that was not foreseen, its message kept back: %s", trace(error))
        return 1
    return 0


def _end_with_the_supervisor() -> None:
    """An orphan must neither use up memory nor write to the store beside its successor."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def run_measure(job: jobs.MeasureJob, phases: JobPhases) -> jobs.MeasureResult:
    """Reads the data, and measures the device unless its capability is known.

    Raises:
        BudgetError: not even one rank a module of the top block fits; names the smallest budget that would do.
    """
    phases.enter("measure")
    space = Workspace(job.terms)
    training, holdout = space.examples(space.max_tokens)
    if not len(training):
        raise DataError(f"{job.terms.data} has no training examples", "the device's data have no training examples")
    capability = job.known or _measure(space, job.link_bytes_per_s)
    longest = max(training.longest, holdout.longest)
    try:
        choose_plan(space, capability, space.layout.full_mask(), _least(space.layout), space.layout.blocks - 1, longest)
    except BudgetError as error:
        # With the budget that is named the device measures itself again, and may find a little more.
        raise cost.refusal(job.terms.budget_bytes, error.smallest_budget_bytes * NAMED_PERCENT // 100) from error
    return jobs.MeasureResult(len(training), len(holdout), longest, capability)


def run_train(job: jobs.TrainJob, phases: JobPhases) -> jobs.TrainResult:
    """One round: catch up, evaluate, train, score, and leave the update in the store.

    An update of the round that is there already is the result of a process that died before it could say so.
    """
    phases.enter("load")
    space = Workspace(job.terms)
    made = space.store.outgoing()
    if made is not None and made.round == job.plan.round:
        return jobs.TrainResult(job.plan.round)
    if made is not None:  # its round closed before it was offered
        space.store.discard(made.round)
    state = space.state(job.deltas)
    check_digest(state, job.plan.version, job.plan.state_sha256)
    crash_points.reach(Point.TRAINER_CAUGHT_UP)
    allowed = unpack_mask(job.plan.trained, space.layout) & state.mask
    parts = space.examples(space.max_tokens)
    longest = max(part.longest for part in parts)
    plan = choose_plan(space, job.capability, state.mask, allowed, job.plan.lowest_block, longest)
    # Read again only to be cut: the data may grow meanwhile, and what is longer than planned does not fit.
    examples, holdout = space.examples(plan.tokens) if plan.tokens < longest else parts
    trained = trainable(space.layout, allowed, plan.lowest_block)
    memory.give_back()
    with memory.PeakSampler() as sampler:
        phases.enter("evaluate")
        phases.follow(sampler)
        score = _evaluate(space, state, holdout, plan)
        crash_points.reach(Point.TRAINER_EVALUATED)
        watch = _watch(space, sampler, job.capability.cost)
        phases.enter("train")
        round_ = Round(space, job, state, plan, trained, examples)
        outcome = round_.learn(watch, phases) if job.plan.work == "train" else round_.look()
        phases.enter("compress")
        body = codec.encode_update(outcome.update, update_layout(space.layout, job.plan.work))
        phases.enter("commit")
        report = _report(plan, outcome, score, watch.step_downs, _seen(space, len(examples), watch, sampler, phases))
    outgoing = Outgoing(job.plan.round, hashlib.sha256(body).digest(), body, msgspec.msgpack.encode(report))
    crash_points.reach(Point.TRAINER_UPDATE_ENCODED)
    space.store.keep_round(space.model(state, outcome.residual), outgoing)
    crash_points.reach(Point.TRAINER_COMMITTED)
    return jobs.TrainResult(job.plan.round)


@dataclass(frozen=True)
class Outcome:
    """What a round made, and what it was made with."""

    update: codec.Update
    residual: Rows
    trained: Trained | None
    """None where the round only looked at the data."""


@dataclass(frozen=True)
class Round:
    """One round's part of this device, from a state that is at the plan's version."""

    space: Workspace
    job: jobs.TrainJob
    state: ModelState
    plan: cost.ChosenPlan
    trained: Mask
    examples: Tokens

    def learn(self, watch: Watch, phases: JobPhases) -> Outcome:
        """Trains the ranks and the head, and scores the ranks."""
        plan = self.plan
        footing = Footing(plan.micro_batch, plan.lowest_block, plan.kept_blocks)
        learned = learn(self.space.engine, self.state, self._work(), footing, watch, _reporter())
        phases.enter("score")
        trained = learned.score()
        crash_points.reach(Point.TRAINER_TRAINED)
        residual = self.space.residual()
        made, left = update.make_update(self._part(), self.state, trained.rows, trained.scores, residual)
        return Outcome(made, left, trained)

    def look(self) -> Outcome:
        """Makes statistics of the classes."""
        reading = _reading(self.space, self.examples, self.plan)
        axes = self.job.plan.work == "class_axes"
        statistics = class_statistics(self.space.engine, self.state, reading, axes=axes)
        return Outcome(update.make_statistics(self._part(), self.state, statistics), self.space.residual(), None)

    def _work(self) -> Work:
        welcome, classes = self.space.welcome, self.space.layout.classes
        return Work(
            self.trained,
            self.examples,
            self.space.tokeniser(self.plan.tokens),
            welcome.training,
            welcome.seed,
            (self.job.terms.device, self.job.plan.round),
            prefix=self.space.prefix(self.state, self.examples, self.plan.lowest_block, self.plan.micro_batch),
            prior=log_prior(self.examples.labels, classes, welcome.training.calibration),
            checkpoints=self._checkpoints(),
        )

    def _checkpoints(self) -> Checkpoints | None:
        every_s = self.job.terms.checkpoint_s
        key = round_key(self.job, self.plan, self.examples)
        return Checkpoints(self.space.store, key, every_s) if every_s else None

    def _part(self) -> update.Part:
        scheme = quantise.find_scheme(self.space.welcome.training.quantisation)
        return update.Part(self.job.plan.round, self.trained, self.job.plan.budget_ranks, len(self.examples), scheme)


def run_final(job: jobs.FinalJob, phases: JobPhases) -> jobs.FinalResult:
    """Brings the state to the version asked for, keeps it, and evaluates it on the hold-out where memory allows."""
    phases.enter("finish")
    space = Workspace(job.terms)
    state = space.state(job.deltas)
    check_digest(state, job.final.version, job.final.state_sha256)
    space.store.keep_model(space.model(state, space.residual()))
    crash_points.reach(Point.TRAINER_FINAL_KEPT)
    return jobs.FinalResult(state.version, *_final_score(space, state, job.capability))


def _final_score(space: Workspace, state: ModelState, capability: m.Capability) -> Score:
    """Of no rows, where there is no memory to look at any."""
    try:
        plan = choose_plan(space, capability, state.mask, state.mask, space.layout.blocks - 1, space.max_tokens)
    except BudgetError as error:
        LOGGER.warning("the model is kept, and not evaluated: %s", error)
        return Score(0, 0)
    _, holdout = space.examples(plan.tokens)
    return _evaluate(space, state, holdout, plan)


def _evaluate(space: Workspace, state: ModelState, holdout: Tokens, plan: cost.ChosenPlan) -> Score:
    return evaluate(space.engine, state, _reading(space, holdout, plan))


def _reading(space: Workspace, tokens: Tokens, plan: cost.ChosenPlan) -> Reading:
    return Reading(tokens, space.tokeniser(plan.tokens), space.welcome.training.batch_size, plan.micro_batch)


def _least(layout: Layout) -> Mask:
    """The least that is worth taking part for: one rank of every module in the top block."""
    first = np.zeros_like(layout.full_mask())
    first[:, 0] = True
    return trainable(layout, first, layout.blocks - 1)


def _measure(space: Workspace, link_bytes_per_s: int) -> m.Capability:
    terms, state = space.terms, space.state()
    table = measure(
        Bench(
            engine=space.engine,
            state=state,
            batch=space.welcome.training.batch_size,
            round_of=lambda tokens, micro_batch: _made_up_round(space, state, tokens, micro_batch),
            buckets=space.tokeniser(space.max_tokens).buckets,
            model=cost.model_of(space.manifest),
            budget_bytes=terms.budget_bytes,
            supervisor_bytes=terms.supervisor_bytes,
            supervisor_file_bytes=max(0, terms.supervisor_peak_rss_bytes - terms.supervisor_bytes),
            threads=terms.threads,
            expands=terms.products == "float32",
        )
    )
    return m.Capability(terms.budget_bytes, memory.total_bytes(), link_bytes_per_s, table)


def _made_up_round(space: Workspace, state: ModelState, tokens: Tokens, micro_batch: int) -> None:
    """A round as `run_train` runs it, two steps long, on tokens that mean nothing; nothing of it is kept."""
    count = len(tokens)
    tokeniser = space.tokeniser(space.max_tokens)
    training = msgspec.structs.replace(space.welcome.training, batch_size=count, local_steps=MEASURED_STEPS)
    work = Work(state.mask, tokens, tokeniser, training, space.welcome.seed, ("measure",))
    with memory.PeakSampler() as sampler:
        watch = Watch(
            sampler,
            budget_bytes=UNLIMITED_BYTES,
            other_bytes=0,
            file_bytes=0,
            blocks=space.layout.blocks,
            available_bytes=lambda: UNLIMITED_BYTES,
        )
        evaluate(space.engine, state, Reading(tokens, tokeniser, count, micro_batch))
        outcome = train(space.engine, state, work, Footing(micro_batch, 0), watch, lambda *_: None)
    part = update.Part(0, state.mask, int(state.mask.sum()), count, quantise.find_scheme(training.quantisation))
    made, _ = update.make_update(part, state, outcome.rows, outcome.scores, space.residual())
    codec.encode_update(made, space.layout)


def _other_bytes(space: Workspace) -> int:
    """What counts against the budget beside this process."""
    return space.terms.supervisor_bytes + space.manifest.mapped_working_set_bytes


def _watch(space: Workspace, sampler: memory.PeakSampler, table: m.CostTable) -> Watch:
    return Watch(
        sampler,
        budget_bytes=space.terms.budget_bytes,
        other_bytes=_other_bytes(space),
        file_bytes=table.file_bytes,
        blocks=space.layout.blocks,
    )


@dataclass(frozen=True)
class Seen:
    """What a round cost, as this process saw it. Peaks are of the whole process tree."""

    examples: int
    peak_rss_bytes: int
    peak_anonymous_bytes: int
    mapped_bytes: int
    phases: tuple[m.Phase, ...]


def _seen(space: Workspace, examples: int, watch: Watch, sampler: memory.PeakSampler, phases: JobPhases) -> Seen:
    own = sampler.peak()
    mapped_bytes = space.manifest.mapped_working_set_bytes
    peak_bytes = max(watch.peak_bytes, own.anonymous_bytes + _other_bytes(space))
    rss_bytes = (memory.high_water_bytes() or own.rss_bytes) + space.terms.supervisor_peak_rss_bytes
    return Seen(examples, rss_bytes, peak_bytes - mapped_bytes, mapped_bytes, phases.drain())


def _report(plan: cost.ChosenPlan, outcome: Outcome, score: Score, step_downs: int, seen: Seen) -> m.RoundReport:
    """The trainer's part of the report; the supervisor adds traffic and its own phases."""
    trained = outcome.trained
    return m.RoundReport(
        examples=seen.examples,
        steps=0 if trained is None else trained.steps,
        loss=None if trained is None else trained.loss,
        holdout_correct=score.correct,
        holdout_total=score.total,
        micro_batch=plan.micro_batch if trained is None else trained.footing.micro_batch,
        depth=0 if trained is None else trained.depth,
        kept_blocks=0 if trained is None else trained.footing.kept_blocks,
        step_downs=step_downs,
        sequence_tokens=plan.tokens,
        ranks=int(outcome.update.changes.ranks.sum()),
        predicted_bytes=plan.predicted_bytes,
        peak_rss_bytes=seen.peak_rss_bytes,
        peak_anonymous_bytes=seen.peak_anonymous_bytes,
        mapped_bytes=seen.mapped_bytes,
        predicted_step_s=plan.predicted_step_s,
        step_s=None if trained is None else trained.step_s,
        bytes_up=0,
        bytes_down=0,
        pack_bytes_down=0,
        phases=seen.phases,
    )


def _reporter() -> Report:
    """Tells of progress about once in `REPORT_EVERY_S`, and of the last step."""
    told_s = time.monotonic()

    def report(step: int, steps: int, loss: float) -> None:
        nonlocal told_s
        crash_points.reach(Point.TRAINER_STEPPED)
        if step == steps or time.monotonic() - told_s >= REPORT_EVERY_S:
            told_s = time.monotonic()
            _say(jobs.Step("train", step, steps, loss))

    return report


def _tell(span: Span) -> None:
    _say(jobs.Recorded(span))


def _say(line: jobs.Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


_RUN: dict[type, Callable[[Any, JobPhases], jobs.Line]] = {
    jobs.MeasureJob: run_measure,
    jobs.TrainJob: run_train,
    jobs.FinalJob: run_final,
}

if __name__ == "__main__":
    sys.exit(main())
