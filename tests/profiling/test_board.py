"""What a device can do, by the real cost table and real rounds on the tiny pack."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.store import Store
from edge_agent.wire import cost
from edge_agent.wire import messages as m
from edge_agent.wire.errors import RankfleetError
from profiling.board import depths, profile_board, rank_counts, trained_mask
from tests.agents import tiny_layout
from tests.profiling.test_budget import MIB, _agent
from tests.runs import SLOTS

SPEEDS = tuple(m.Speed(size, (100.0 / size, 2.0, 0.0), (200.0 / size, 3.0, 0.0)) for size in (1, 4))
TABLE = m.CostTable(10 * MIB, 2000, 3, 20 * MIB, 0, 50.0, SPEEDS, 1)


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    path = _agent(tmp_path)
    with_budget(tmp_path, 512 * MIB)
    return path


def with_budget(folder: Path, budget_bytes: int) -> None:
    store = Store(folder / "state" / "agent.db")
    store.keep(capability=m.Capability(budget_bytes, 2**32, 10**6, TABLE))
    store.close()


def test_predictions_are_those_of_the_device_s_own_table(agent: Path) -> None:
    found = profile_board(agent, measure=False)
    layout = tiny_layout()
    assert found.measured == ()
    assert len(found.predicted) == layout.blocks * len(rank_counts(layout)) * len(SPEEDS)
    by_shape = {(one.depth, one.ranks, one.micro_batch): one for one in found.predicted}
    whole = by_shape[layout.blocks, SLOTS, 4]
    top = by_shape[1, 1, 4]
    assert top.step_s < whole.step_s and top.peak_bytes < whole.peak_bytes and whole.fits
    parameters = layout.parameters(layout.full_mask()) - layout.parameters(trained_mask(layout, 1, layout.blocks))
    less = by_shape[layout.blocks, SLOTS, 1].peak_bytes - by_shape[layout.blocks, 1, 1].peak_bytes
    assert less == cost.TRAINED_BYTES * parameters


def test_what_does_not_fit_is_said(agent: Path, tmp_path: Path) -> None:
    smallest = min(one.peak_bytes for one in profile_board(agent, measure=False).predicted)
    with_budget(tmp_path, cost.budget_for(smallest))
    fitting = {one.fits for one in profile_board(agent, measure=False).predicted}
    assert fitting == {True, False}


def test_rounds_are_measured_beside_what_their_plan_predicted(agent: Path) -> None:
    found = profile_board(agent)
    layout = tiny_layout()
    assert [(one.depth, one.ranks) for one in found.measured] == [
        (depth, ranks) for depth in depths(layout) for ranks in rank_counts(layout)
    ]
    for one in found.measured:
        assert one.reason is None and one.step_s is not None and one.step_s > 0
        assert one.peak_bytes is not None and one.peak_bytes > MIB
        assert one.predicted_step_s is not None and one.predicted_bytes is not None


def test_a_device_that_can_train_nothing_is_told_what_it_would_take(agent: Path, tmp_path: Path) -> None:
    with_budget(tmp_path, 21 * MIB)
    with pytest.raises(RankfleetError, match="smallest that does is"):
        profile_board(agent)
