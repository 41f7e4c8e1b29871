"""The cost table that a device measures of itself, on an engine whose cost is known because the test makes it."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.protocol import Batch, Float32, Gradients
from edge_agent.examples import Tokens
from edge_agent.measure import Bench, Timing, _expand_us, _non_negative, _speeds, measure
from edge_agent.memory import SAMPLE_EVERY_S
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Layout, Module, Rows
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("m", 0, 16, 16), Module("n", 1, 16, 16)), 2, 2, 16)
STATE = seed_state(LAYOUT, 0)
MODEL = cost.Model(blocks=2, d_model=16, block_parameters=300, block_outputs=16, mapped_bytes=0)
TOKEN_BYTES = 400_000
PLENTY_BYTES = 2**34


class Still:
    """An engine that does nothing: what is measured is what `_round` takes."""

    def step(self, batch: Batch, rows: Rows, *, lowest_block: int, micro_batch: int, kept_blocks: int = 0) -> Gradients:
        return Gradients(1.0, {}, 0)

    def logits(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        return np.zeros((len(batch.input_ids), 2), np.float32)

    def give_back(self) -> None:
        """Has nothing."""


class Rounds:
    """Takes `TOKEN_BYTES` a token while it lasts, and remembers the shapes that it was given."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, tokens: Tokens, micro_batch: int) -> None:
        assert micro_batch == len(tokens), "one thread has one micro-batch"
        self.shapes.append((len(tokens), tokens.longest))
        held = np.ones(TOKEN_BYTES * len(tokens) * tokens.longest, np.uint8)
        time.sleep(10 * SAMPLE_EVERY_S)  # long enough to be seen on a busy machine
        del held


def _bench(rounds: Rounds, budget_bytes: int) -> Bench:
    return Bench(
        engine=Still(),
        state=STATE,
        batch=8,
        round_of=rounds,
        buckets=(8, 16, 32),
        model=MODEL,
        budget_bytes=budget_bytes,
        supervisor_bytes=0,
        supervisor_file_bytes=0,
        threads=1,
    )


def _predicted(table: object, micro_batch: int, tokens: int) -> int:
    parameters = LAYOUT.parameters(STATE.mask)
    work = cost.Work(MODEL, micro_batch, 0, tokens, micro_batch, 0, parameters, parameters, 34)
    return cost.peak_bytes(table, work)  # type: ignore[arg-type]


def test_the_growth_with_the_tokens_is_found() -> None:
    rounds = Rounds()
    table = measure(_bench(rounds, PLENTY_BYTES))
    assert set(rounds.shapes) == {(b, t) for b in (1, 8) for t in (8, 16, 32)}
    growth = _predicted(table, 8, 32) - _predicted(table, 1, 8)
    assert growth == pytest.approx(TOKEN_BYTES * (8 * 32 - 8), rel=0.15)


def test_times_are_told_apart_by_weights_sequences_and_direction() -> None:
    bench = _bench(Rounds(), PLENTY_BYTES)
    truth = cost_table()

    def timing(micro_batch: int, tokens: int, sequences: int) -> Timing:
        work = cost.Work(MODEL, micro_batch, 0, tokens, sequences, 2, 0, 0, 0)
        forward_s = cost.step_s(truth, work)
        whole_s = cost.step_s(truth, dataclasses.replace(work, lowest_block=0))
        return Timing(micro_batch, tokens, cost.in_turn(sequences, micro_batch, 1), forward_s, whole_s - 2 * forward_s)

    timings = [timing(1, 8, 1), *(timing(size, tokens, 8) for size in (1, 2) for tokens in (8, 16, 32))]
    expand_us = _expand_us(bench, timings)
    assert expand_us == pytest.approx(truth.expand_us)
    for found, true in zip(_speeds(bench, timings, expand_us), truth.speeds, strict=True):
        assert found.micro_batch == true.micro_batch
        assert found.forward_us == pytest.approx(true.forward_us)
        assert found.backward_us == pytest.approx(true.backward_us)


def cost_table() -> m.CostTable:
    speeds = (m.Speed(1, (9.0, 3.0, 0.1), (20.0, 5.0, 0.2)), m.Speed(2, (5.0, 3.0, 0.1), (10.0, 5.0, 0.2)))
    return m.CostTable(0, 0, 0, 0, 0, 700.0, speeds, 1)


def test_all_micro_batches_that_fit_are_timed() -> None:
    table = measure(_bench(Rounds(), PLENTY_BYTES))
    assert [speed.micro_batch for speed in table.speeds] == [1, 2, 4, 8]


def test_a_shape_that_might_not_fit_is_not_tried() -> None:
    generous = measure(_bench(Rounds(), PLENTY_BYTES))
    rounds = Rounds()
    measure(_bench(rounds, _predicted(generous, 8, 8)))
    assert (8, 32) not in rounds.shapes and (1, 8) in rounds.shapes


def test_with_one_point_the_growth_is_a_guess_and_never_nothing() -> None:
    table = measure(_bench(Rounds(), 1))
    assert table.token_bytes > 0 and table.base_bytes > 0


@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3))
def test_costs_without_noise_are_found_exactly(terms: list[float]) -> None:
    features = np.array([[1, t, t * t] for t in (8, 16, 32, 64)], np.float64)
    assert features @ _non_negative(features, features @ np.array(terms)) == pytest.approx(
        features @ np.array(terms), rel=1e-6, abs=1e-3
    )


@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4))
def test_no_cost_is_negative(values: list[float]) -> None:
    features = np.array([[1, t, t * t] for t in (8, 16, 32, 64)], np.float64)
    assert (_non_negative(features, np.array(values)) >= 0).all()


def test_with_fewer_points_than_terms_the_last_terms_are_left_out() -> None:
    features = np.array([[1, 16, 256], [1, 16, 256]], np.float64)
    assert _non_negative(features, np.array([5.0, 5.0])).tolist() == pytest.approx([5.0, 0.0, 0.0])
