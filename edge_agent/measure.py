"""Measures the device: the one cost table that planning, allocation and profiling use (see `wire.cost`).

Short rounds of the real training code on made-up tokens, from small to large, each after what the engine kept was
given back and the peak so far was forgotten: memory that was laid out for another shape would count otherwise. Each
shape is timed too, the forward pass and a whole step. Recomputation runs the forward graph on the same weights, so the
step's time without twice the forward pass is the way back alone. A shape that might not fit the budget is not tried:
the device must survive being measured.
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
ROUND_MICRO_BATCHES = (1, 8)
"""Micro-batches whose memory is measured; between them it grows with the tokens."""
TIMES = 3
TIMED_S = 1.0
"""A shape is timed `TIMES` times, or until so much has passed."""
GUESSED_NUMBERS = 64
"""Numbers that a token takes inside of a block, in widths of the model, before anything was measured."""

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """The measured memory of one shape, with all blocks and ranks trained and none kept."""

    work: cost.Work
    at_once: int
    """Tokens in a block together."""
    anonymous_bytes: int
    file_bytes: int


@dataclass(frozen=True)
class Timing:
    """The measured time of one shape, and what of it was the way back. `in_turn` sequences passed each thread."""

    micro_batch: int
    tokens: int
    in_turn: int
    forward_s: float
    backward_s: float


@dataclass(frozen=True)
class Bench:
    """What is measured, for optimizer steps of `batch` examples.

    `round_of` trains a whole round on the tokens given, as one batch in micro-batches of the size given, and makes its
    update.
    """

    engine: Engine
    state: ModelState
    batch: int
    round_of: Callable[[Tokens, int], None]
    buckets: tuple[int, ...]
    model: cost.Model
    budget_bytes: int
    supervisor_bytes: int
    supervisor_file_bytes: int
    threads: int
    expands: bool = True
    """As in the cost table."""

    @property
    def rows(self) -> Rows:
        """The rows that the engine works on."""
        return compact(self.state.layout, self.state.rows, self.state.mask)


def measure(bench: Bench) -> m.CostTable:
    """The device's cost table. The smallest shape is tried whatever the budget is: without it nothing is known."""
    peaks: list[Peak] = []
    timings: list[Timing] = []
    lengths = _lengths(bench.buckets)
    bench.round_of(_made_up(1, lengths[0]), 1)  # makes the sessions, so that no shape carries that cost
    with memory.PeakSampler() as sampler:
        for micro_batch, tokens in _shapes(bench, lengths):
            if peaks and _expected_bytes(bench, peaks, micro_batch, tokens) > _room_bytes(bench):
                break
            if micro_batch in ROUND_MICRO_BATCHES:
                peaks.append(_measure_peak(bench, sampler, micro_batch, tokens))
            if not timings:  # few sequences and then more with the same weights: tells the two apart
                timings.append(_measure_time(bench, micro_batch, tokens, min(bench.batch, bench.threads)))
            timings.append(_measure_time(bench, micro_batch, tokens, _timed_sequences(bench)))
    return _table(bench, peaks, timings)


def _lengths(buckets: tuple[int, ...]) -> list[int]:
    """Lengths spread over the buckets, ascending."""
    last = len(buckets) - 1
    return sorted({buckets[round(last * part / (LENGTHS - 1))] for part in range(LENGTHS)})


def _shapes(bench: Bench, lengths: list[int]) -> list[tuple[int, int]]:
    """Micro-batch and tokens, from the least work to the most."""
    sizes = [size for size in cost.MICRO_BATCHES if size <= bench.batch]
    return sorted(((size, tokens) for size in sizes for tokens in lengths), key=lambda one: (one[0] * one[1], one))


def _timed_sequences(bench: Bench) -> int:
    """A batch as in training, but no more than the largest micro-batch for each thread."""
    return min(bench.batch, bench.threads * cost.MICRO_BATCHES[-1])


def _room_bytes(bench: Bench) -> int:
    return bench.budget_bytes - bench.supervisor_bytes - bench.model.mapped_bytes


def _expected_bytes(bench: Bench, peaks: list[Peak], micro_batch: int, tokens: int) -> float:
    """Where the next peak will lie at most: what is known of it, and the rest at the slope so far (first a guess),
    growing with the length."""
    first, last = peaks[0], peaks[-1]
    slope_bytes: float = _guessed_token_bytes(bench)
    if last.at_once > first.at_once:
        slope_bytes = (_rest_bytes(bench, last) - _rest_bytes(bench, first)) / (last.at_once - first.at_once)
    work = _work(bench, micro_batch, tokens, _timed_sequences(bench))
    more_tokens = max(0, cost.at_once_tokens(work, bench.threads) - last.at_once)
    growth_bytes = max(0.0, slope_bytes) * more_tokens * max(1.0, tokens / last.work.tokens)
    return _known_bytes(bench, work) + _rest_bytes(bench, last) + growth_bytes


def _guessed_token_bytes(bench: Bench) -> int:
    return GUESSED_NUMBERS * cost.FLOAT_BYTES * bench.model.d_model


def _measure_peak(bench: Bench, sampler: memory.PeakSampler, micro_batch: int, tokens: int) -> Peak:
    work = _work(bench, micro_batch, tokens, min(bench.batch, bench.threads * micro_batch))
    bench.engine.give_back()
    memory.give_back()
    sampler.restart()
    bench.round_of(_made_up(work.batch, tokens), micro_batch)
    peak = sampler.peak()
    return Peak(
        work, cost.at_once_tokens(work, bench.threads), peak.anonymous_bytes, peak.rss_bytes - peak.anonymous_bytes
    )


def _measure_time(bench: Bench, micro_batch: int, tokens: int, sequences: int) -> Timing:
    made_up = _made_up(sequences, tokens)
    batch = Batch(np.stack(made_up.ids), np.ones((sequences, tokens), np.int32), made_up.labels)
    rows = bench.rows
    forward_s = _best_s(lambda: bench.engine.logits(batch, rows, micro_batch=micro_batch))
    step_s = _best_s(lambda: bench.engine.step(batch, rows, lowest_block=0, micro_batch=micro_batch))
    in_turn = cost.in_turn(sequences, micro_batch, bench.threads)
    return Timing(micro_batch, tokens, in_turn, forward_s, max(step_s - 2 * forward_s, 0.0))


def _made_up(sequences: int, tokens: int) -> Tokens:
    return Tokens(tuple(np.zeros((sequences, tokens), np.int32)), np.zeros(sequences, np.int32))


def _best_s(work: Callable[[], object]) -> float:
    """The time of `work`, the best of some: the first has memory to lay out, which tells where the time is short."""
    times: list[float] = []
    while len(times) < TIMES and sum(times) < TIMED_S:
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return min(times)


def _table(bench: Bench, peaks: list[Peak], timings: list[Timing]) -> m.CostTable:
    base, token, pair = _fit_memory(bench, peaks)
    expand_us = _expand_us(bench, timings)
    return m.CostTable(
        base_bytes=base,
        token_bytes=token,
        pair_bytes=pair,
        supervisor_bytes=bench.supervisor_bytes,
        file_bytes=bench.supervisor_file_bytes + max(peak.file_bytes for peak in peaks),
        expand_us=expand_us,
        speeds=tuple(_speeds(bench, timings, expand_us)),
        threads=bench.threads,
        expands=bench.expands,
    )


def _fit_memory(bench: Bench, peaks: list[Peak]) -> tuple[int, int, int]:
    """Base, bytes a token and bytes a pair; the base is raised until no measured peak lies above the fit."""
    features = np.array([[1, p.at_once, p.at_once * p.work.tokens] for p in peaks], np.float64)
    rest = np.array([_rest_bytes(bench, peak) for peak in peaks], np.float64)
    if len(peaks) == 1:  # nothing larger fitted: the slope stays a guess
        return max(0, int(rest[0])), _guessed_token_bytes(bench), 0
    base, token, pair = np.ceil(_non_negative(features, rest))
    above = float(np.max(rest - features @ np.array([base, token, pair])))
    return max(0, int(base + max(above, 0.0))), int(token), int(pair)


def _rest_bytes(bench: Bench, peak: Peak) -> int:
    return peak.anonymous_bytes - _known_bytes(bench, peak.work)


def _known_bytes(bench: Bench, work: cost.Work) -> int:
    """What of a peak the formula of `wire.cost` states by itself, with this process alone and nothing mapped."""
    nothing = m.CostTable(0, 0, 0, 0, 0, 0.0, (), bench.threads, bench.expands)
    return cost.peak_bytes(nothing, work) - bench.model.mapped_bytes


def _work(bench: Bench, micro_batch: int, tokens: int, batch: int) -> cost.Work:
    """A step that trains everything and keeps nothing."""
    parameters = bench.state.layout.parameters(bench.state.mask)
    return cost.Work(
        model=bench.model,
        micro_batch=micro_batch,
        kept_blocks=0,
        tokens=tokens,
        batch=batch,
        lowest_block=0,
        living_parameters=parameters,
        trained_parameters=parameters,
        head_parameters=bench.state.rows[HEAD].size,
    )


def _expand_us(bench: Bench, timings: list[Timing]) -> float:
    """What a pass through a block takes without any sequence, from the first two: few sequences and many."""
    few, many = timings[:2]
    if many.in_turn == few.in_turn:
        return 0.0
    sequence_s = (many.forward_s - few.forward_s) / (many.in_turn - few.in_turn)
    return max(0.0, few.forward_s - few.in_turn * max(0.0, sequence_s)) * 1e6 / bench.model.blocks


def _speeds(bench: Bench, timings: list[Timing], expand_us: float) -> list[m.Speed]:
    """Times of one sequence in one block, by micro-batch."""
    speeds = []
    for micro_batch in sorted({timing.micro_batch for timing in timings}):
        some = [timing for timing in timings if timing.micro_batch == micro_batch]
        passes = [bench.model.blocks * timing.in_turn for timing in some]
        forward = [
            (t.tokens, max(0.0, t.forward_s * 1e6 - bench.model.blocks * expand_us) / n)
            for t, n in zip(some, passes, strict=True)
        ]
        backward = [(t.tokens, t.backward_s * 1e6 / n) for t, n in zip(some, passes, strict=True)]
        speeds.append(m.Speed(micro_batch, _fit_time(forward), _fit_time(backward)))
    return speeds


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
