"""A run of real processes whose head starts from statistics of the classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator import events
from edge_agent.wire import state as states
from edge_agent.wire.state import seed_state
from tests.system.fleet import DEVICES, Settings, fleet, of_kind

ROUNDS = 2


@pytest.mark.parametrize("start", ["class_means", "discriminant"])
def test_statistics_make_a_head_that_training_with_a_calibrated_loss_goes_on_from(tmp_path: Path, start: str) -> None:
    settings = Settings(rounds=ROUNDS, head={"start": start}, training={"calibration": 1.0})
    with fleet(tmp_path, settings) as one:
        told = one.run()
        started, trained = one.records()
        assert started.loss is None and trained.loss is not None
        assert started.contributors == trained.contributors == DEVICES
        assert started.ranks_alive == one.layout().ranks
        assert started.accuracy is not None and trained.accuracy is not None
        assert trained.accuracy > started.accuracy + 0.2, "the means alone tell the classes apart"
        reports = [event.report for event in of_kind(told, events.Received)]
        assert [report.steps > 0 for report in reports] == [False] * len(DEVICES) + [True] * len(DEVICES)
        final = one.final_state()
        assert final.version == ROUNDS
        assert states.digest(final) != states.digest(seed_state(one.layout(), settings.seed))
        assert {one.agent_state(name) for name in DEVICES} == {one.checkpoint()}
