"""What a device would do with other memory budgets: its plan, and the peak that it then really reaches.

For each budget a fresh trainer process measures the device and another trains one whole round from the seed state, on
the device's own data, as in a fleet that allocates it every rank. Nothing of it is sent or kept.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from edge_agent import config, jobs
from edge_agent.predict import DATABASE
from edge_agent.wire.errors import RankfleetError
from profiling.one_round import LINK_BYTES_PER_S, Joined, find_joined, first_plan, make_terms, report_in, run_job


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


def measure_budgets(agent_toml: Path, budgets_bytes: list[int]) -> list[Row]:
    """One row a budget, for the agent configured in `agent_toml`, which must have joined a fleet before.

    Raises:
        ConfigError: the configuration cannot be used, or the agent has joined no fleet yet.
        RankfleetError: a job failed for another reason than memory.
    """
    settings = config.load(agent_toml)
    joined = find_joined(settings)
    return [_measure(settings, joined, budget_bytes) for budget_bytes in budgets_bytes]


def _measure(settings: config.AgentConfig, joined: Joined, budget_bytes: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        terms = make_terms(settings, joined, budget_bytes, Path(folder) / DATABASE)
        measured = run_job(jobs.MeasureJob(terms, LINK_BYTES_PER_S, None))
        if isinstance(measured, jobs.Failure):
            return _declined(budget_bytes, measured)
        assert isinstance(measured, jobs.MeasureResult)
        trained = run_job(jobs.TrainJob(terms, first_plan(terms), (), measured.capability))
        if isinstance(trained, jobs.Failure):
            return _declined(budget_bytes, trained)
        return _row(budget_bytes, Path(terms.store))


def _declined(budget_bytes: int, failure: jobs.Failure) -> Row:
    if failure.smallest_budget_bytes is None:
        raise RankfleetError(failure.reason)
    return Row(budget_bytes, reason=failure.reason, smallest_budget_bytes=failure.smallest_budget_bytes)


def _row(budget_bytes: int, database: Path) -> Row:
    report = report_in(database)
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
