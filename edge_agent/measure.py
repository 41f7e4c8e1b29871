"""Measures the device: the one cost table that planning, allocation and profiling use (see `wire.cost`).

Short rounds of the real training code on made-up tokens, from small to large, each after the peak so far was
forgotten. A shape that might not fit the budget is not tried: the device must survive being measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent import memory
from edge_agent.engine.protocol import Batch, Engine
from edge_agent.examples import Tokens
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD, Rows, compact
from edge_agent.wire.state import ModelState

LENGTHS = 3
MICRO_BATCHES = (1, 8)
REPEATS = 2
GUESSED_NUMBERS = 64
"""Numbers that a token takes in a block, in widths of the model, before anything was measured."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One measured shape: `micro_batch` sequences of `tokens` tokens, all blocks and ranks trained."""

    micro_batch: int
    tokens: int
    anonymous_bytes: int
    file_bytes: int
    forward_s: float
    backward_s: float

    @property
    def at_once(self) -> int:
        """Tokens that pass a block together."""
        return self.micro_batch * self.tokens


@dataclass(frozen=True)
class Bench:
    """What is measured. `round_of` trains a whole round on the tokens given, as one batch, and makes its update."""

    engine: Engine
    state: ModelState
    round_of: Callable[[Tokens], None]
    buckets: tuple[int, ...]
    budget_bytes: int
    supervisor_bytes: int
    mapped_bytes: int
    threads: int

    @property
    def rows(self) -> Rows:
        """The rows that the engine works on."""
        return compact(self.state.layout, self.state.rows, self.state.mask)


def measure(bench: Bench) -> m.CostTable:
    """The device's cost table. The smallest shape is tried whatever the budget is: without it nothing is known."""
    points: list[Point] = []
    bench.round_of(_made_up(*_shapes(bench.buckets)[0]))  # makes the sessions, so that no point carries that cost
    with memory.PeakSampler() as sampler:
        for micro_batch, tokens in _shapes(bench.buckets):
            if points and _expected_bytes(bench, points, micro_batch, tokens) > _room_bytes(bench):
                break
            points.append(_measure_point(bench, sampler, micro_batch, tokens))
    return _table(bench, points)


def _shapes(buckets: tuple[int, ...]) -> list[tuple[int, int]]:
    """Micro-batch and tokens, from the least work to the most; the lengths spread over the buckets."""
    last = len(buckets) - 1
    lengths = sorted({buckets[round(last * part / (LENGTHS - 1))] for part in range(LENGTHS)})
    return sorted(((b, t) for b in MICRO_BATCHES for t in lengths), key=lambda shape: shape[0] * shape[1])


def _room_bytes(bench: Bench) -> int:
    return bench.budget_bytes - bench.supervisor_bytes - bench.mapped_bytes


def _expected_bytes(bench: Bench, points: list[Point], micro_batch: int, tokens: int) -> float:
    """Where the next peak will lie at most: at the slope so far (first a guess), growing with the length."""
    first, last = points[0], points[-1]
    slope_bytes: float = _guessed_token_bytes(bench)
    if last.at_once > first.at_once:
        slope_bytes = (last.anonymous_bytes - first.anonymous_bytes) / (last.at_once - first.at_once)
    growth_bytes = max(0.0, slope_bytes) * (micro_batch * tokens - last.at_once)
    return last.anonymous_bytes + growth_bytes * max(1.0, tokens / last.tokens)


def _guessed_token_bytes(bench: Bench) -> int:
    return GUESSED_NUMBERS * cost.FLOAT_BYTES * bench.state.layout.d_model


def _measure_point(bench: Bench, sampler: memory.PeakSampler, micro_batch: int, tokens: int) -> Point:
    memory.give_back()
    made_up = _made_up(micro_batch, tokens)
    batch = Batch(np.stack(made_up.ids), np.ones((micro_batch, tokens), np.int32), made_up.labels)
    sampler.restart()
    bench.round_of(made_up)
    peak = sampler.peak()
    rows = bench.rows
    forward_s = _best_s(lambda: bench.engine.logits(batch, rows, micro_batch=micro_batch))
    step_s = _best_s(lambda: bench.engine.step(batch, rows, lowest_block=0, micro_batch=micro_batch))
    file_bytes = peak.rss_bytes - peak.anonymous_bytes
    return Point(micro_batch, tokens, peak.anonymous_bytes, file_bytes, forward_s, max(step_s - forward_s, 0.0))


def _made_up(micro_batch: int, tokens: int) -> Tokens:
    return Tokens(tuple(np.zeros((micro_batch, tokens), np.int32)), np.zeros(micro_batch, np.int32))


def _best_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return min(times)


def _table(bench: Bench, points: list[Point]) -> m.CostTable:
    base, token, pair = _fit_memory(bench, points)
    blocks = bench.state.layout.blocks
    forward = [(p.tokens, p.forward_s * 1e6 / (p.micro_batch * blocks)) for p in points]
    backward = [(p.tokens, p.backward_s * 1e6 / (p.micro_batch * blocks)) for p in points]
    return m.CostTable(
        base_bytes=base,
        token_bytes=token,
        pair_bytes=pair,
        supervisor_bytes=bench.supervisor_bytes,
        file_bytes=max(p.file_bytes for p in points),
        forward_us=_fit_time(forward),
        backward_us=_fit_time(backward),
        threads=bench.threads,
    )


def _fit_memory(bench: Bench, points: list[Point]) -> tuple[int, int, int]:
    """Base, bytes a token and bytes a pair; the base is raised until no measured peak lies above the fit."""
    features = np.array([[1, p.micro_batch * p.tokens, p.micro_batch * p.tokens**2] for p in points], np.float64)
    rest = np.array([p.anonymous_bytes - _known_bytes(bench, p) for p in points], np.float64)
    if len(points) == 1:  # nothing larger fitted: the slope stays a guess
        return max(0, int(rest[0])), _guessed_token_bytes(bench), 0
    base, token, pair = np.ceil(_non_negative(features, rest))
    above = float(np.max(rest - features @ np.array([base, token, pair])))
    return max(0, int(base + max(above, 0.0))), int(token), int(pair)


def _known_bytes(bench: Bench, point: Point) -> int:
    """What of a peak the formula of `wire.cost` states by itself, with this process alone and nothing mapped."""
    layout = bench.state.layout
    parameters = layout.parameters(bench.state.mask)
    nothing = m.CostTable(0, 0, 0, 0, 0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), bench.threads)
    work = cost.Work(
        micro_batch=point.micro_batch,
        tokens=point.tokens,
        batch=point.micro_batch,
        lowest_block=0,
        blocks=layout.blocks,
        d_model=layout.d_model,
        living_parameters=parameters,
        trained_parameters=parameters,
        head_parameters=bench.state.rows[HEAD].size,
    )
    return cost.peak_bytes(nothing, work, 0)


def _fit_time(points: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Fixed, per token and per pair of tokens, in microseconds of one sequence in one block."""
    features = np.array([[1, tokens, tokens**2] for tokens, _ in points], np.float64)
    fixed, token, pair = _non_negative(features, np.array([us for _, us in points], np.float64))
    return float(fixed), float(token), float(pair)


def _non_negative(features: Float64, values: Float64) -> Float64:
    """Least squares without negative coefficients: the most negative term is left out until none is.

    Costs do not fall with size: a negative term is noise, and would be extrapolated. With fewer different points than
    terms, the last terms are left out.
    """
    solution = np.zeros(features.shape[1])
    terms = list(range(features.shape[1]))
    while np.linalg.matrix_rank(features[:, terms]) < len(terms):
        terms.pop()
    while terms:
        found, *_ = np.linalg.lstsq(features[:, terms], values, rcond=None)
        if (found >= 0).all():
            solution[terms] = found
            break
        del terms[int(np.argmin(found))]
    return solution
