"""What a device would do with other memory budgets: its plan, and the peak that it then really reaches.

For each budget a fresh trainer process measures the device and another trains one whole round from the seed state, on
the device's own data, as in a fleet that allocates it every rank. Nothing of it is sent or kept.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge_agent import config, jobs
from edge_agent.fetching import Fetcher
from edge_agent.predict import DATABASE
from edge_agent.store import Store
from edge_agent.wire import messages as m
from edge_agent.wire.errors import ConfigError, RankfleetError
from edge_agent.wire.pack import load_manifest, module_layout
from edge_agent.wire.ranks import pack_mask
from edge_agent.wire.state import digest, seed_state

POLL_S = 0.02
DEADLINE_S = 3600.0
LINK_BYTES_PER_S = 10**6  # no link is used; the capability needs one


class Row(msgspec.Struct, frozen=True):
    """One budget. A device that declines has `reason` and `smallest_budget_bytes` in place of the rest."""

    budget_bytes: int
    micro_batch: int | None = None
    kept_blocks: int | None = None
    depth: int | None = None
    sequence_tokens: int | None = None
    ranks: int | None = None
    predicted_bytes: int | None = None
    measured_bytes: int | None = None
    """Peak anonymous memory of the process tree, and the mapped working set: what the budget bounds."""
    trainer_rss_bytes: int | None = None
    """High-water mark of the trainer process alone, file-backed pages included."""
    predicted_step_s: float | None = None
    step_s: float | None = None
    step_downs: int | None = None
    """How often the round went on with less than planned: what was predicted is of the plan."""
    reason: str | None = None
    smallest_budget_bytes: int | None = None


class Joined(NamedTuple):
    """What the agent remembers of its fleet: the terms, and what it measured of itself, its resident part included."""

    welcome: m.Welcome
    known: m.Capability


def measure_budgets(agent_toml: Path, budgets_bytes: list[int]) -> list[Row]:
    """One row a budget, for the agent configured in `agent_toml`, which must have joined a fleet before.

    Raises:
        ConfigError: the configuration cannot be used, or the agent has joined no fleet yet.
        RankfleetError: a job failed for another reason than memory.
    """
    settings = config.load(agent_toml)
    joined = _joined(settings)
    return [_measure(settings, joined, budget_bytes) for budget_bytes in budgets_bytes]


def _joined(settings: config.AgentConfig) -> Joined:
    store = Store(settings.state_dir / DATABASE, read_only=True)
    try:
        welcome, known = store.value("welcome", m.Welcome), store.value("capability", m.Capability)
    finally:
        store.close()
    if welcome is None or known is None:
        raise ConfigError(f"the agent in {settings.state_dir} has joined no fleet and measured nothing: run it once")
    return Joined(welcome, known)


def _measure(settings: config.AgentConfig, joined: Joined, budget_bytes: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        terms = _terms(settings, joined, budget_bytes, Path(folder) / DATABASE)
        measured = _run(jobs.MeasureJob(terms, LINK_BYTES_PER_S, None))
        if isinstance(measured, jobs.Failure):
            return _declined(budget_bytes, measured)
        assert isinstance(measured, jobs.MeasureResult)
        trained = _run(jobs.TrainJob(terms, _whole_plan(terms), (), measured.capability))
        if isinstance(trained, jobs.Failure):
            return _declined(budget_bytes, trained)
        return _row(budget_bytes, Path(terms.store))


def _terms(settings: config.AgentConfig, joined: Joined, budget_bytes: int, store: Path) -> jobs.Terms:
    welcome, known = joined
    return jobs.Terms(
        device=settings.device,
        welcome=welcome,
        pack_dir=str(Fetcher(settings.state_dir).pack_dir(welcome.pack.sha256)),
        store=str(store),
        data=str(settings.data),
        data_path=None if settings.data_path is None else str(settings.data_path),
        holdout_share=settings.holdout_share,
        threads=settings.threads,
        budget_bytes=budget_bytes,
        supervisor_bytes=known.cost.supervisor_bytes,
        supervisor_peak_rss_bytes=0,
        prefix_limit_bytes=settings.prefix.limit_bytes,
        engine=settings.engine,
        torch_device=settings.torch_device,
        products=settings.products,
    )


def _whole_plan(terms: jobs.Terms) -> m.Plan:
    """A first round that trains every rank."""
    welcome = terms.welcome
    layout = module_layout(load_manifest(Path(terms.pack_dir)), welcome.slots, len(welcome.classes))
    state = seed_state(layout, welcome.seed)
    return m.Plan(
        round=1,
        rounds=1,
        version=0,
        deltas=(),
        state_sha256=digest(state),
        work="train",
        trained=pack_mask(state.mask),
        budget_ranks=layout.ranks,
        lowest_block=0,
        deadline_s=DEADLINE_S,
        late_rounds=0,
    )


def _run(job: jobs.AnyJob) -> jobs.AnyLine:
    runner = jobs.Runner()
    runner.start(job)
    try:
        while True:
            line = runner.poll()
            if line is not None and not isinstance(line, jobs.Step):
                return line
            time.sleep(POLL_S)
    finally:
        runner.stop()


def _declined(budget_bytes: int, failure: jobs.Failure) -> Row:
    if failure.smallest_budget_bytes is None:
        raise RankfleetError(failure.reason)
    return Row(budget_bytes, reason=failure.reason, smallest_budget_bytes=failure.smallest_budget_bytes)


def _row(budget_bytes: int, database: Path) -> Row:
    store = Store(database)
    try:
        outgoing = store.outgoing()
        assert outgoing is not None
        report = store.report_of(outgoing)
    finally:
        store.close()
    return Row(
        budget_bytes=budget_bytes,
        micro_batch=report.micro_batch,
        kept_blocks=report.kept_blocks,
        depth=report.depth,
        sequence_tokens=report.sequence_tokens,
        ranks=report.ranks,
        predicted_bytes=report.predicted_bytes,
        measured_bytes=report.peak_anonymous_bytes + report.mapped_bytes,
        trainer_rss_bytes=report.peak_rss_bytes,
        predicted_step_s=report.predicted_step_s,
        step_s=report.step_s,
        step_downs=report.step_downs,
    )
