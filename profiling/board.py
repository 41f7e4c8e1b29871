"""What a device can do: step time and peak memory by micro-batch, rank and depth, predicted and measured.

Predictions are those that planning and allocation go by: the device's own cost table, in `edge_agent/wire/cost.py`.
Beside them stand rounds of a few steps that a fresh trainer process really trains on the device's own data, each in the
way that the device plans for that depth and number of ranks. Nothing of it is sent or kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from edge_agent import config, jobs
from edge_agent.predict import DATABASE
from edge_agent.trainer import trainable
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import load_manifest
from edge_agent.wire.ranks import HEAD, Layout, Mask
from profiling.one_round import (
    LINK_BYTES_PER_S,
    Joined,
    find_joined,
    first_plan,
    layout_of,
    make_terms,
    report_in,
    run_job,
)

STEPS = 5
"""Optimizer steps of a measured round."""


class Predicted(msgspec.Struct, frozen=True):
    """One way to train. `ranks` are those of each module in the trained blocks; no block is kept."""

    micro_batch: int
    depth: int
    ranks: int
    step_s: float
    peak_bytes: int
    fits: bool
    """Within what a plan may use of the budget."""


class Measured(msgspec.Struct, frozen=True):
    """One round that was trained. Where it does not fit, `reason` says so in place of the rest."""

    depth: int
    ranks: int
    micro_batch: int | None = None
    kept_blocks: int | None = None
    predicted_step_s: float | None = None
    step_s: float | None = None
    predicted_bytes: int | None = None
    peak_bytes: int | None = None
    step_downs: int | None = None
    reason: str | None = None


class Abilities(msgspec.Struct, frozen=True):
    """What one device can do with `tokens`, the length that its longest text is padded to, in batches of `batch`."""

    device: str
    budget_bytes: int
    threads: int
    tokens: int
    batch: int
    predicted: tuple[Predicted, ...]
    measured: tuple[Measured, ...]


def profile_board(agent_toml: Path, *, measure: bool = True) -> Abilities:
    """What the device of the agent configured in `agent_toml` can do; it must have joined a fleet before.

    Raises:
        ConfigError: the configuration cannot be used, or the agent has joined no fleet yet.
        RankfleetError: a round failed for another reason than memory.
    """
    settings = config.load(agent_toml)
    joined = find_joined(settings)
    with tempfile.TemporaryDirectory() as folder:
        terms = _short(make_terms(settings, joined, joined.known.budget_bytes, Path(folder) / DATABASE))
        layout, tokens = layout_of(terms), _tokens(terms, joined)
    measured = tuple(_measured(settings, joined, layout)) if measure else ()
    return Abilities(
        device=settings.device,
        budget_bytes=joined.known.budget_bytes,
        threads=joined.known.cost.threads,
        tokens=tokens,
        batch=joined.welcome.training.batch_size,
        predicted=tuple(_predicted(terms, joined, layout, tokens)),
        measured=measured,
    )


def _short(terms: jobs.Terms) -> jobs.Terms:
    training = msgspec.structs.replace(terms.welcome.training, local_steps=STEPS)
    return msgspec.structs.replace(terms, welcome=msgspec.structs.replace(terms.welcome, training=training))


def _tokens(terms: jobs.Terms, joined: Joined) -> int:
    """What the longest local text is padded to."""
    found = run_job(jobs.MeasureJob(terms, LINK_BYTES_PER_S, joined.known))
    if isinstance(found, jobs.Failure):
        raise RankfleetError(found.reason)
    assert isinstance(found, jobs.MeasureResult)
    return cost.bucket(max(1, found.longest_tokens), cost.buckets_up_to(terms.welcome.training.max_tokens))


def _predicted(terms: jobs.Terms, joined: Joined, layout: Layout, tokens: int) -> Iterator[Predicted]:
    table, usable_bytes = joined.known.cost, cost.usable_bytes(joined.known.budget_bytes)
    model = cost.model_of(load_manifest(Path(terms.pack_dir)))
    for depth in range(1, layout.blocks + 1):
        for ranks in rank_counts(layout):
            for speed in table.speeds:
                work = cost.Work(
                    model=model,
                    micro_batch=speed.micro_batch,
                    kept_blocks=0,
                    tokens=tokens,
                    batch=terms.welcome.training.batch_size,
                    lowest_block=layout.blocks - depth,
                    living_parameters=layout.parameters(layout.full_mask()),
                    trained_parameters=layout.parameters(trained_mask(layout, ranks, depth)),
                    head_parameters=layout.tables[HEAD].rows * layout.tables[HEAD].width,
                )
                peak_bytes = cost.peak_bytes(table, work)
                step_s = cost.step_s(table, work)
                yield Predicted(speed.micro_batch, depth, ranks, step_s, peak_bytes, peak_bytes <= usable_bytes)


def rank_counts(layout: Layout) -> list[int]:
    """Ranks of a module to show: one, and all."""
    return sorted({1, layout.slots})


def depths(layout: Layout) -> list[int]:
    """Depths to measure: the top block, half of the blocks, all of them."""
    return sorted({1, max(1, layout.blocks // 2), layout.blocks})


def trained_mask(layout: Layout, ranks: int, depth: int) -> Mask:
    """The first `ranks` of every module in the uppermost `depth` blocks."""
    first = np.zeros_like(layout.full_mask())
    first[:, :ranks] = True
    return trainable(layout, first, layout.blocks - depth)


def _measured(settings: config.AgentConfig, joined: Joined, layout: Layout) -> Iterator[Measured]:
    for depth in depths(layout):
        for ranks in rank_counts(layout):
            with tempfile.TemporaryDirectory() as folder:
                terms = _short(make_terms(settings, joined, joined.known.budget_bytes, Path(folder) / DATABASE))
                yield _measure(terms, joined.known, layout, ranks, depth)


def _measure(terms: jobs.Terms, known: m.Capability, layout: Layout, ranks: int, depth: int) -> Measured:
    plan = first_plan(terms, trained_mask(layout, ranks, depth), layout.blocks - depth)
    result = run_job(jobs.TrainJob(terms, plan, (), known))
    if isinstance(result, jobs.Failure):
        if result.smallest_budget_bytes is None:
            raise RankfleetError(result.reason)
        return Measured(depth, ranks, reason=result.reason)
    report = report_in(Path(terms.store))
    return Measured(
        depth=report.depth,
        ranks=ranks,
        micro_batch=report.micro_batch,
        kept_blocks=report.kept_blocks,
        predicted_step_s=report.predicted_step_s,
        step_s=report.step_s,
        predicted_bytes=report.predicted_bytes,
        peak_bytes=report.peak_anonymous_bytes + report.mapped_bytes,
        step_downs=report.step_downs,
    )
