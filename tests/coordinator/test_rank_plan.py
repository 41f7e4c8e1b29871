from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator import fleet_model, schedule
from coordinator.automatic import Sign, budget_ranks
from coordinator.config import RankSettings
from coordinator.rank_plan import RankPlan
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, Module, keep_top

LAYOUT = Layout((Module("low", 0, 4, 3), Module("high", 1, 4, 3)), slots=4, classes=3, d_model=4)
SETTINGS = RankSettings(initial=4, target=2.0, warmup_rounds=1, final_rounds=2)
MODEL = fleet_model.start(LAYOUT, 0)
SCHEME = find_scheme("int8")
ROUNDS = 8


def budget(settings: RankSettings, model: fleet_model.FleetModel, number: int) -> int:
    return RankPlan(settings, ROUNDS, LAYOUT.full_mask()).rules(model, number, SCHEME).budget_ranks


def with_ranks(count: int) -> fleet_model.FleetModel:
    mask = keep_top(np.ones(MODEL.state.mask.shape), MODEL.state.mask, count)
    return replace(MODEL, state=replace(MODEL.state, mask=mask))


def test_the_budget_is_the_schedules() -> None:
    plan = schedule.Schedule(ROUNDS, initial=8, target=4, warmup=1, final=2)
    rounds = range(1, ROUNDS + 1)
    assert [budget(SETTINGS, MODEL, n) for n in rounds] == [schedule.budget_ranks(plan, n) for n in rounds]


def test_only_the_modules_of_the_start_count() -> None:
    start = LAYOUT.full_mask()
    start[0] = False
    assert RankPlan(SETTINGS, ROUNDS, start).rules(with_ranks(4), ROUNDS, SCHEME).budget_ranks == 2


def test_no_budget_is_above_the_living_ranks() -> None:
    assert budget(SETTINGS, with_ranks(3), 1) == 3


def test_an_automatic_target_follows_what_the_rounds_showed() -> None:
    automatic = RankSettings(initial=4, target="auto")
    assert budget(automatic, MODEL, 1) == 8
    shown = (Sign(1.0, 1, 1.0),)
    assert budget(automatic, replace(MODEL, signs=shown), 2) == budget_ranks(shown, 8, least=2) < 8


@pytest.mark.parametrize(("threshold", "expected"), [(0.7, 0.7), ("auto", 0.5)])
def test_the_threshold_is_as_set_or_the_share_of_votes_by_chance(threshold: object, expected: float) -> None:
    settings = RankSettings(initial=4, target=2.0, warmup_rounds=0, final_rounds=2, threshold=threshold)  # type: ignore[arg-type]
    rules = RankPlan(settings, ROUNDS, LAYOUT.full_mask()).rules(MODEL, ROUNDS, SCHEME)
    assert (rules.threshold, rules.scheme) == (expected, SCHEME)


def test_phases_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        RankPlan(RankSettings(warmup_rounds=5, final_rounds=3), ROUNDS, LAYOUT.full_mask())
