"""The short-lived trainer process: one job from standard input, its result on standard output (see `jobs`)."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import psutil

from edge_agent import jobs, memory, update
from edge_agent.examples import Tokens
from edge_agent.measure import Bench, measure
from edge_agent.meter import PhaseMeter
from edge_agent.planning import choose_plan
from edge_agent.store import Outgoing
from edge_agent.trainer import Report, Score, Trained, Work, evaluate, train, trainable
from edge_agent.watch import Footing, Watch
from edge_agent.wire import codec, cost, quantise
from edge_agent.wire import messages as m
from edge_agent.wire.errors import BudgetError, DataError, RankfleetError
from edge_agent.wire.ranks import Layout, Mask, unpack_mask
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace, check_digest

REPORT_EVERY_S = 1.0
MEASURED_STEPS = 2
UNLIMITED_BYTES = 2**62


def main() -> int:
    """Runs the job on standard input; exit status 0 if its result or failure was told."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=jobs.AnyJob)
    threading.Thread(target=_end_with_the_supervisor, daemon=True).start()
    try:
        _say(_RUN[type(job)](job))
    except RankfleetError as error:
        smallest = error.smallest_budget_bytes if isinstance(error, BudgetError) else None
        _say(jobs.Failure(str(error), smallest))
    except MemoryError:
        _say(jobs.Failure("the system refused memory to the trainer process: lower memory.budget_bytes"))
    return 0


def _end_with_the_supervisor() -> None:
    """An orphan must neither use up memory nor write to the store beside its successor."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def run_measure(job: jobs.MeasureJob) -> jobs.MeasureResult:
    """Reads the data, and measures the device unless its capability is known.

    Raises:
        BudgetError: not even one rank a module of the top block fits; names the smallest budget that would do.
    """
    space = Workspace(job.terms)
    training, holdout = space.examples(space.max_tokens)
    if not len(training):
        raise DataError(f"{job.terms.data} has no training examples")
    capability = job.known or _measure(space, job.link_bytes_per_s)
    longest = max(training.longest, holdout.longest)
    choose_plan(space, capability, space.layout.full_mask(), _least(space.layout), space.layout.blocks - 1, longest)
    return jobs.MeasureResult(len(training), len(holdout), longest, capability)


def run_train(job: jobs.TrainJob) -> jobs.TrainResult:
    """One round: catch up, evaluate, train, score, and leave the update in the store."""
    phases = PhaseMeter(psutil.Process().parent())
    phases.enter("load")
    space = Workspace(job.terms)
    state = space.state(job.deltas)
    check_digest(state, job.plan.version, job.plan.state_sha256)
    allowed = unpack_mask(job.plan.trained, space.layout) & state.mask
    longest = max(part.longest for part in space.examples(space.max_tokens))
    plan = choose_plan(space, job.capability, state.mask, allowed, job.plan.lowest_block, longest)
    examples, holdout = space.examples(plan.tokens if plan.tokens < longest else space.max_tokens)
    trained = trainable(space.layout, allowed, plan.lowest_block)
    memory.give_back()
    with memory.PeakSampler() as sampler:
        phases.enter("evaluate")
        score = _evaluate(space, state, holdout, plan)
        phases.enter("train")
        work = _work(space, job, plan, trained, examples)
        prefix = space.prefix(state, examples, plan.lowest_block, plan.micro_batch)
        work = replace(work, prefix=prefix)
        watch = _watch(space, sampler)
        footing = Footing(plan.micro_batch, plan.lowest_block, plan.kept_blocks)
        outcome = train(space.engine, state, work, footing, watch, _reporter())
        phases.enter("compress")
        part = _part(job, trained, len(examples))
        made, residual = update.make_update(part, state, outcome.rows, outcome.scores, space.residual())
        body = codec.encode_update(made, space.layout)
        phases.enter("")
        report = _report(plan, outcome, score, watch.step_downs, _seen(space, len(examples), watch, sampler, phases))
    outgoing = Outgoing(job.plan.round, hashlib.sha256(body).digest(), body, msgspec.msgpack.encode(report))
    space.store.keep_round(space.model(state, residual), outgoing)
    return jobs.TrainResult(job.plan.round)


def run_final(job: jobs.FinalJob) -> jobs.FinalResult:
    """Brings the state to the final version and evaluates it on the hold-out."""
    space = Workspace(job.terms)
    state = space.state(job.deltas)
    check_digest(state, job.final.version, job.final.state_sha256)
    plan = choose_plan(space, job.capability, state.mask, state.mask, space.layout.blocks - 1, space.max_tokens)
    _, holdout = space.examples(plan.tokens)
    score = _evaluate(space, state, holdout, plan)
    space.store.keep_model(space.model(state, space.residual()))
    return jobs.FinalResult(state.version, *score)


def _evaluate(space: Workspace, state: ModelState, holdout: Tokens, plan: cost.ChosenPlan) -> Score:
    tokeniser, batch_size = space.tokeniser(plan.tokens), space.welcome.training.batch_size
    return evaluate(space.engine, state, holdout, tokeniser, batch_size=batch_size, micro_batch=plan.micro_batch)


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
            blocks=space.layout.blocks,
            available_bytes=lambda: UNLIMITED_BYTES,
        )
        evaluate(space.engine, state, tokens, tokeniser, batch_size=count, micro_batch=micro_batch)
        outcome = train(space.engine, state, work, Footing(micro_batch, 0), watch, lambda *_: None)
    part = update.Part(0, state.mask, int(state.mask.sum()), count, quantise.find_scheme(training.quantisation))
    made, _ = update.make_update(part, state, outcome.rows, outcome.scores, space.residual())
    codec.encode_update(made, space.layout)


def _part(job: jobs.TrainJob, trained: Mask, examples: int) -> update.Part:
    scheme = quantise.find_scheme(job.terms.welcome.training.quantisation)
    return update.Part(job.plan.round, trained, job.plan.budget_ranks, examples, scheme)


def _work(space: Workspace, job: jobs.TrainJob, plan: cost.ChosenPlan, trained: Mask, examples: Tokens) -> Work:
    welcome = job.terms.welcome
    path = (job.terms.device, job.plan.round)
    return Work(trained, examples, space.tokeniser(plan.tokens), welcome.training, welcome.seed, path)


def _other_bytes(space: Workspace) -> int:
    """What counts against the budget beside this process."""
    return space.terms.supervisor_bytes + space.manifest.mapped_working_set_bytes


def _watch(space: Workspace, sampler: memory.PeakSampler) -> Watch:
    budget_bytes, other_bytes = space.terms.budget_bytes, _other_bytes(space)
    return Watch(sampler, budget_bytes=budget_bytes, other_bytes=other_bytes, blocks=space.layout.blocks)


@dataclass(frozen=True)
class Seen:
    """What a round cost, as this process saw it. Peaks are of the whole process tree."""

    examples: int
    peak_rss_bytes: int
    peak_anonymous_bytes: int
    mapped_bytes: int
    phases: tuple[m.Phase, ...]


def _seen(space: Workspace, examples: int, watch: Watch, sampler: memory.PeakSampler, phases: PhaseMeter) -> Seen:
    own = sampler.peak()
    mapped_bytes = space.manifest.mapped_working_set_bytes
    peak_bytes = max(watch.peak_bytes, own.anonymous_bytes + _other_bytes(space))
    rss_bytes = (memory.high_water_bytes() or own.rss_bytes) + space.terms.supervisor_peak_rss_bytes
    return Seen(examples, rss_bytes, peak_bytes - mapped_bytes, mapped_bytes, phases.drain())


def _report(plan: cost.ChosenPlan, outcome: Trained, score: Score, step_downs: int, seen: Seen) -> m.RoundReport:
    """The trainer's part of the report; the supervisor adds traffic and its own phases."""
    return m.RoundReport(
        examples=seen.examples,
        steps=outcome.steps,
        loss=outcome.loss,
        holdout_correct=score.correct,
        holdout_total=score.total,
        micro_batch=outcome.footing.micro_batch,
        depth=outcome.depth,
        kept_blocks=outcome.footing.kept_blocks,
        step_downs=step_downs,
        sequence_tokens=plan.tokens,
        ranks=int(outcome.trained.sum()),
        predicted_bytes=plan.predicted_bytes,
        peak_rss_bytes=seen.peak_rss_bytes,
        peak_anonymous_bytes=seen.peak_anonymous_bytes,
        mapped_bytes=seen.mapped_bytes,
        predicted_step_s=plan.predicted_step_s,
        step_s=outcome.step_s,
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
        if step == steps or time.monotonic() - told_s >= REPORT_EVERY_S:
            told_s = time.monotonic()
            _say(jobs.Step("train", step, steps, loss))

    return report


def _say(line: jobs.Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


_RUN: dict[type, Callable[[Any], jobs.Line]] = {
    jobs.MeasureJob: run_measure,
    jobs.TrainJob: run_train,
    jobs.FinalJob: run_final,
}

if __name__ == "__main__":
    sys.exit(main())
