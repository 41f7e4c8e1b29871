"""A trainer without a process and without an engine: what it learns is drawn, everything else is the product's.

It follows `trainer_process`: state from the store and the deltas, the digest compared, update and residual made,
encoded and kept in one transaction. It can die wherever the real one can, and refuse.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from edge_agent import jobs, update
from edge_agent.selection import trained_positions
from edge_agent.store import Outgoing
from edge_agent.wire import codec, crash_points
from edge_agent.wire import messages as m
from edge_agent.wire.class_statistics import statistics_layout, update_layout
from edge_agent.wire.crash_points import Point
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import HEAD, Rows, compact, unpack_mask
from edge_agent.wire.state import ModelState
from edge_agent.workspace import Workspace, check_digest
from tests.runs import CAPABILITY
from tests.wire.examples import REPORT

SPREAD = 0.1
HOLDOUT = (3, 5)


class DiedError(BaseException):
    """Whoever has its turn dies here: nothing of the product catches it."""


@dataclass
class Watched:
    """What a test learns of training: `held` of every state that a device is about to train or to keep, `strayed` of a
    device whose state does not come to the version that it should."""

    held: Callable[[str, ModelState], None]
    strayed: Callable[[str, str], None]
    made: dict[bytes, codec.Update] = field(default_factory=dict)
    """Every update that was ever made, by its hash."""
    rounds: dict[bytes, int] = field(default_factory=dict)
    """Its round, likewise."""


class InProcess:
    """Has the shape of `jobs.Runner`. A job ends when `clock_s` says that its time is over."""

    def __init__(self, examples: int, watched: Watched, clock_s: Callable[[], float]) -> None:
        self.job: jobs.AnyJob | None = None
        self.refuses = False
        """Whether the next job ends with a refusal."""
        self.duration_s = 1.0
        self._examples = examples
        self._watched = watched
        self._clock_s = clock_s
        self._due_s = 0.0
        self._line: jobs.AnyLine | None = None

    def start(self, job: jobs.AnyJob) -> None:
        self.stop()
        self.job, self._due_s = job, self._clock_s() + self.duration_s

    def stop(self) -> None:
        self.job = self._line = None

    def kill(self) -> None:
        """The process is killed."""
        self.job, self._line = None, jobs.Failure("the trainer process was killed by signal 9", killed=True)

    def poll(self) -> jobs.AnyLine | None:
        if self.job is not None and self._clock_s() >= self._due_s:
            job, self.job = self.job, None
            self._line = self._result(job)
        line, self._line = self._line, None
        return line

    def _result(self, job: jobs.AnyJob) -> jobs.AnyLine:
        if self.refuses and not isinstance(job, jobs.MeasureJob):  # there it would be for good
            self.refuses = False
            return jobs.Failure("nothing fits the budget", 9 * 2**20)
        try:
            return self._run(job)
        except DiedError:
            return jobs.Failure("the trainer process was killed by signal 9", killed=True)
        except PayloadError as error:
            self._watched.strayed(job.terms.device, str(error))
            return jobs.Failure(str(error))

    def _run(self, job: jobs.AnyJob) -> jobs.AnyLine:
        if isinstance(job, jobs.MeasureJob):
            return jobs.MeasureResult(self._examples, HOLDOUT[1], 12, job.known or CAPABILITY)
        space = Workspace(job.terms)
        try:
            return self._train(space, job) if isinstance(job, jobs.TrainJob) else self._final(space, job)
        finally:
            space.store.close()

    def _train(self, space: Workspace, job: jobs.TrainJob) -> jobs.TrainResult:
        crash_points.reach(Point.TRAINER_STARTED)
        plan, made = job.plan, space.store.outgoing()
        if made is not None and made.round == plan.round:
            return jobs.TrainResult(plan.round)
        if made is not None:
            space.store.discard(made.round)
        state = space.state(job.deltas)
        check_digest(state, plan.version, plan.state_sha256)
        self._watched.held(job.terms.device, state)
        crash_points.reach(Point.TRAINER_CAUGHT_UP)
        outcome, residual = self._learn(space, job, state)
        body = codec.encode_update(outcome, update_layout(space.layout, plan.work))
        sha256 = hashlib.sha256(body).digest()
        self._watched.made[sha256], self._watched.rounds[sha256] = outcome, plan.round
        crash_points.reach(Point.TRAINER_UPDATE_ENCODED)
        outgoing = Outgoing(plan.round, sha256, body, msgspec.msgpack.encode(self._report(plan)))
        space.store.keep_round(space.model(state, residual), outgoing)
        crash_points.reach(Point.TRAINER_COMMITTED)
        return jobs.TrainResult(plan.round)

    def _learn(self, space: Workspace, job: jobs.TrainJob, state: ModelState) -> tuple[codec.Update, Rows]:
        """Every attempt learns something else, so that no two updates are the same."""
        plan, layout = job.plan, space.layout
        draws = np.random.default_rng([plan.round, len(self._watched.made), *job.terms.device.encode()])
        trained = unpack_mask(plan.trained, layout) & state.mask
        scheme = find_scheme(space.welcome.training.quantisation)
        part = update.Part(plan.round, trained, plan.budget_ranks, self._examples, scheme)
        if plan.work != "train":
            return update.make_statistics(part, state, _statistics(space, draws)), space.residual()
        rows = compact(layout, state.rows, state.mask)
        for name, places in trained_positions(layout, state.mask, trained).items():
            rows[name][places] += SPREAD * draws.standard_normal(rows[name][places].shape).astype(np.float32)
        rows[HEAD] += SPREAD * draws.standard_normal(rows[HEAD].shape).astype(np.float32)
        return update.make_update(part, state, rows, draws.random(trained.shape) * trained, space.residual())

    def _report(self, plan: m.Plan) -> m.RoundReport:
        correct, total = HOLDOUT
        report = msgspec.structs.replace(
            REPORT, examples=self._examples, holdout_correct=correct, holdout_total=total, phases=()
        )
        return report if plan.work == "train" else msgspec.structs.replace(report, steps=0, loss=None, step_s=None)

    def _final(self, space: Workspace, job: jobs.FinalJob) -> jobs.FinalResult:
        state = space.state(job.deltas)
        check_digest(state, job.final.version, job.final.state_sha256)
        self._watched.held(job.terms.device, state)
        space.store.keep_model(space.model(state, space.residual()))
        crash_points.reach(Point.TRAINER_FINAL_KEPT)
        return jobs.FinalResult(state.version, *HOLDOUT)


def _statistics(space: Workspace, draws: np.random.Generator) -> Rows:
    """Means of the classes and axes of what deviates from them, as `class_statistics` would make them of texts."""
    layout, classes = statistics_layout(space.layout), space.layout.classes
    table = draws.standard_normal((layout.classes, layout.d_model + 1)).astype(np.float32)
    table[:, -1] = 0
    table[:classes, -1] = 1 / classes
    return {HEAD: table}
