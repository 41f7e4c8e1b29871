"""Measures the device: the one cost table that planning, allocation and profiling use (see `wire.cost`).

Real steps of the real engine, from small to large, each after the peak so far was forgotten. A shape that might not
fit the budget is not tried: the device must survive being measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_agent.engine.protocol import Batch, Engine
from edge_agent.memory import PeakSampler
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD, Layout, Rows

TOKENS = (16, 64, 128)
MICRO_BATCHES = (1, 4)
REPEATS = 2
GRADIENT_BYTES = 4
SAFE_SHARE = 0.9


@dataclass(frozen=True)
class Point:
    """One measured step of `micro_batch` sequences of `tokens` tokens, all blocks trained."""

    micro_batch: int
    tokens: int
    anonymous_bytes: int
    file_bytes: int
    forward_s: float
    backward_s: float


@dataclass(frozen=True)
class Bench:
    """What is measured: an engine, the rows that it works on, and the limits of the device."""

    engine: Engine
    layout: Layout
    rows: Rows
    max_tokens: int
    budget_bytes: int
    supervisor_bytes: int
    threads: int
    mapped_bytes: int

    @property
    def parameters(self) -> int:
        """Adapter parameters in `rows`."""
        return sum(table.size for name, table in self.rows.items() if name != HEAD)


def measure(bench: Bench) -> m.CostTable:
    """The device's cost table.

    Raises:
        BudgetError: not even the smallest step fits the budget.
    """
    points: list[Point] = []
    with PeakSampler() as sampler:
        for micro_batch, tokens in _shapes(bench.max_tokens):
            if points and _expected_bytes(points, micro_batch, tokens) > SAFE_SHARE * _room_bytes(bench):
                break
            points.append(_measure_point(bench, sampler, micro_batch, tokens))
            if points[-1].anonymous_bytes > _room_bytes(bench):
                break
    _check_smallest(bench, points[0])
    return _table(bench, points)


def _shapes(max_tokens: int) -> Iterator[tuple[int, int]]:
    """Micro-batch and tokens, from the least work to the most."""
    lengths = [t for t in TOKENS if t <= max_tokens] or [max_tokens]
    return iter(sorted(((b, t) for b in MICRO_BATCHES for t in lengths), key=lambda shape: shape[0] * shape[1] ** 2))


def _room_bytes(bench: Bench) -> int:
    return bench.budget_bytes - bench.supervisor_bytes - bench.mapped_bytes


def _expected_bytes(points: list[Point], micro_batch: int, tokens: int) -> float:
    """Upper bound of the next peak: all growth so far taken to be quadratic in the tokens."""
    first, last = points[0], points[-1]
    growth = max(last.anonymous_bytes - first.anonymous_bytes, first.anonymous_bytes // 20)
    return first.anonymous_bytes + growth * (micro_batch * tokens**2) / (last.micro_batch * last.tokens**2)


def _measure_point(bench: Bench, sampler: PeakSampler, micro_batch: int, tokens: int) -> Point:
    shape = (micro_batch, tokens)
    batch = Batch(np.zeros(shape, np.int32), np.ones(shape, np.int32), np.zeros(micro_batch, np.int32))
    bench.engine.step(batch, bench.rows, lowest_block=0, micro_batch=micro_batch)
    forward_s = _best_s(lambda: bench.engine.logits(batch, bench.rows, micro_batch=micro_batch))
    sampler.restart()
    step_s = _best_s(lambda: bench.engine.step(batch, bench.rows, lowest_block=0, micro_batch=micro_batch))
    peak = sampler.peak()
    file_bytes = peak.rss_bytes - peak.anonymous_bytes
    return Point(micro_batch, tokens, peak.anonymous_bytes, file_bytes, forward_s, max(step_s - forward_s, 0.0))


def _best_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return min(times)


def _check_smallest(bench: Bench, point: Point) -> None:
    needed = bench.supervisor_bytes + bench.mapped_bytes + point.anonymous_bytes
    if needed > bench.budget_bytes:
        raise cost.too_small(bench.budget_bytes, needed)


def _table(bench: Bench, points: list[Point]) -> m.CostTable:
    base, token, pair = _fit_memory(bench, points)
    forward = [(p.tokens, p.forward_s * 1e6 / (p.micro_batch * bench.layout.blocks)) for p in points]
    backward = [(p.tokens, p.backward_s * 1e6 / (p.micro_batch * bench.layout.blocks)) for p in points]
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
    base, token, pair = np.ceil(_non_negative(features, rest))
    above = float(np.max(rest - features @ np.array([base, token, pair])))
    return int(base + max(above, 0.0)), int(token), int(pair)


def _known_bytes(bench: Bench, point: Point) -> int:
    """What of the peak the formula states exactly: kept block inputs, the rows twice, their gradient."""
    hidden = cost.FLOAT_BYTES * point.micro_batch * point.tokens * bench.layout.d_model * (bench.layout.blocks + 1)
    numbers = bench.parameters + bench.rows[HEAD].size
    return hidden + (cost.LIVING_BYTES + GRADIENT_BYTES) * numbers


def _fit_time(points: list[tuple[int, float]]) -> tuple[float, float, float]:
    """Fixed, per token and per pair of tokens, in microseconds of one sequence in one block."""
    features = np.array([[1, tokens, tokens**2] for tokens, _ in points], np.float64)
    fixed, token, pair = _non_negative(features, np.array([us for _, us in points], np.float64))
    return float(fixed), float(token), float(pair)


def _non_negative(features: npt.NDArray[np.float64], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares without negative coefficients: the most negative term is left out until none is.

    Costs do not fall with size; a negative term is noise, and would be extrapolated.
    """
    solution = np.zeros(features.shape[1])
    terms = list(range(features.shape[1]))
    while terms:
        found, *_ = np.linalg.lstsq(features[:, terms], values, rcond=None)
        if (found >= 0).all():
            solution[terms] = found
            break
        del terms[int(np.argmin(found))]
    return solution
