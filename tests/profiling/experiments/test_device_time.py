"""The modelled time of a device follows its cost table."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from coordinator.config import TrainingSettings
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import Mask
from profiling.experiments.device_time import DeviceTime
from tests.peers import LAYOUT

BATCH, TOKENS, STEPS = 16, 32, 5
SLOW_ALONE = m.Speed(1, (900.0, 9.0, 0.0), (900.0, 9.0, 0.0))
FAST_TOGETHER = m.Speed(8, (100.0, 1.0, 0.0), (100.0, 1.0, 0.0))
TABLE = m.CostTable(1, 1, 1, 1, 1, 50.0, (SLOW_ALONE, FAST_TOGETHER), 1)
MODEL = cost.Model(blocks=LAYOUT.blocks, d_model=6, block_parameters=100, block_outputs=20, mapped_bytes=1000)
TRAINING = m.Training(**msgspec.structs.asdict(TrainingSettings(batch_size=BATCH)))


def a_device(*speeds: m.Speed) -> DeviceTime:
    table = msgspec.structs.replace(TABLE, speeds=speeds or TABLE.speeds)
    return DeviceTime(table, 1000, MODEL, LAYOUT, TRAINING)


def down_to(block: int) -> Mask:
    """All ranks from `block` up."""
    return np.array([[module.block >= block] * LAYOUT.slots for module in LAYOUT.modules])


def test_training_time_is_that_of_the_cost_table_for_every_step() -> None:
    work = cost.Work(MODEL, 8, 0, TOKENS, BATCH, 1, 0, 0, 0)
    assert a_device().training_s(down_to(1), TOKENS, STEPS) == pytest.approx(STEPS * cost.step_s(TABLE, work))


def test_the_fastest_micro_batch_is_taken() -> None:
    times_s = [a_device(speed).training_s(down_to(0), TOKENS, STEPS) for speed in TABLE.speeds]
    assert a_device().training_s(down_to(0), TOKENS, STEPS) == min(times_s) < max(times_s)


def test_the_deeper_the_ranks_reach_the_longer_it_takes() -> None:
    times_s = [a_device().training_s(down_to(block), TOKENS, STEPS) for block in reversed(range(LAYOUT.blocks + 1))]
    assert times_s == sorted(times_s)
    assert len(set(times_s)) == len(times_s)


def test_a_module_without_ranks_does_not_lead_down() -> None:
    trained = down_to(0)
    trained[0] = False
    assert a_device().training_s(trained, TOKENS, STEPS) == a_device().training_s(down_to(1), TOKENS, STEPS)


def test_looking_takes_as_many_steps_of_the_head_alone_as_there_are_batches() -> None:
    head_alone_s = a_device().training_s(down_to(LAYOUT.blocks), TOKENS, 1)
    assert a_device().looking_s(TOKENS, BATCH) == pytest.approx(head_alone_s)
    assert a_device().looking_s(TOKENS, 2 * BATCH + 1) == pytest.approx(3 * head_alone_s)


def test_transfers_take_their_bytes_over_the_rate_of_the_link() -> None:
    assert a_device().transfer_s(2500) == 2.5
