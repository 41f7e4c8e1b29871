"""Rounds of the real trainer process, with and without recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.round_log import NAME
from edge_agent.wire.errors import ConfigError
from profiling.overhead import Cost, Pair, measure_pairs, own_share, summarise
from tests.profiling.test_budget import _agent
from tests.runs import make_agent


def test_pairs_are_measured_and_nothing_is_kept(tmp_path: Path) -> None:
    agent = _agent(tmp_path)
    pairs = list(measure_pairs(agent, 2))
    assert len(pairs) == 2
    for pair in pairs:
        for cost in (pair.without, pair.recorded):
            assert cost.wall_s > 0.1 and cost.cpu_s > 0.1
        assert 0 < pair.recorded.recording_cpu_s < pair.recorded.cpu_s / 5
        assert pair.without.recording_cpu_s == 0
    assert 0 < own_share(pairs) < 0.2
    assert not (tmp_path / "state" / NAME).exists()


def test_the_difference_is_that_of_the_pairs() -> None:
    """A machine that gets slower moves both of a pair, so the median of the differences stays what it is."""
    pairs = [Pair(Cost(10.0 * n, 1.0), Cost(10.0 * n + 0.1, 1.02)) for n in range(1, 6)]
    wall, cpu = summarise(pairs)
    assert (wall.figure, wall.without, wall.recorded) == ("wall s", 30.0, 30.1)
    assert wall.difference == pytest.approx(0.1) and (wall.low, wall.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert cpu.share == pytest.approx(0.02)


def test_an_agent_that_never_joined_is_told_so(tmp_path: Path) -> None:
    agent = _agent(tmp_path)
    for file in (tmp_path / "state").glob("agent.db*"):
        file.unlink()
    make_agent(tmp_path / "state", None, with_pack=False)
    with pytest.raises(ConfigError, match="has joined no fleet"):
        list(measure_pairs(agent, 1))
