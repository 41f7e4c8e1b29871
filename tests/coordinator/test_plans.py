"""Each device's part follows from the model and from what the device measured of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet_model
from coordinator.automatic import Sign, budget_ranks
from coordinator.config import CoordinatorConfig, HeadSettings
from coordinator.objects import Objects
from coordinator.plans import Planner
from coordinator.store import Checkpoint, Store
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import BudgetError, ConfigError
from edge_agent.wire.ranks import keep_top, unpack_mask
from tests.models import tiny_pack
from tests.runs import CAPABILITY
from tests.scripted import make_config

SPEED = m.Speed(1, (100.0, 1.0, 0.01), (200.0, 2.0, 0.02))
COST = m.CostTable(10_000, 100, 1, 10_000, 0, 5.0, (SPEED,), 1)
NEVER_MORE = settings(deadline=None, max_examples=40)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planner]:
    folder = tmp_path_factory.mktemp("plans")
    store = Store(folder / "coordinator.db")
    yield make_planner(make_config(folder, deadline_s=600.0), store)
    store.close()


def make_planner(config: CoordinatorConfig, store: Store) -> Planner:
    return Planner(config, Objects(tiny_pack(), store), store.run_id())


def a_ready(version: int = 0, **capability: Any) -> m.Ready:
    return m.Ready(bytes(32), 20, 5, 12, version, msgspec.structs.replace(CAPABILITY, cost=COST, **capability))


def part(planner: Planner, **capability: Any) -> tuple[int, int, int]:
    """Tokens, trained blocks and ranks, in the order in which a device prefers more of them; zeros if nothing fits."""
    try:
        allocation = planner.allocation(fleet_model.start(planner.layout, 0), a_ready(**capability))
    except BudgetError:
        return 0, 0, 0
    depth = planner.layout.blocks - allocation.lowest_block
    return allocation.predicted.tokens, depth, int(allocation.trained.sum())


def test_the_same_device_gets_the_same_plan(planner: Planner) -> None:
    model = fleet_model.start(planner.layout, 0)
    assert planner.plan(model, a_ready(), 1) == planner.plan(model, a_ready(), 1)


def test_a_plan_says_what_to_train_from_which_state(planner: Planner) -> None:
    model = fleet_model.start(planner.layout, 0)
    plan = planner.plan(model, a_ready(), 1)
    trained = unpack_mask(plan.trained, planner.layout)
    assert trained.all(), "a device with room for everything trains everything"
    assert (plan.round, plan.rounds, plan.version, plan.deltas) == (1, 2, 0, ())
    assert (plan.lowest_block, plan.deadline_s) == (0, 600.0)
    assert plan.state_sha256 == states.digest(model.state)
    assert plan.budget_ranks == planner.rules(model, 1).budget_ranks


@pytest.mark.parametrize(
    ("start", "first"), [("seed", "train"), ("class_means", "class_means"), ("discriminant", "class_axes")]
)
def test_only_a_first_round_is_for_statistics_of_classes(
    tmp_path: Path, start: Literal["seed", "class_means", "discriminant"], first: m.PlanWork
) -> None:
    store = Store(tmp_path / "coordinator.db")
    planner = make_planner(msgspec.structs.replace(make_config(tmp_path), head=HeadSettings(start)), store)
    assert [planner.work(number) for number in (1, 2, 3)] == [first, "train", "train"]
    assert planner.plan(fleet_model.start(planner.layout, 0), a_ready(), 1).work == first
    store.close()


@NEVER_MORE
@given(st.integers(10_000, 400_000), st.integers(0, 100_000))
def test_a_lower_budget_never_gives_a_larger_part(planner: Planner, budget_bytes: int, less_bytes: int) -> None:
    lower = max(1, budget_bytes - less_bytes)
    assert part(planner, budget_bytes=lower) <= part(planner, budget_bytes=budget_bytes)


@NEVER_MORE
@given(st.integers(1, 1000), st.integers(0, 1000))
def test_a_slower_link_never_gives_a_larger_part(planner: Planner, rate: int, less: int) -> None:
    slower = max(1, rate - less)
    assert part(planner, link_bytes_per_s=slower) <= part(planner, link_bytes_per_s=rate)


def test_parts_do_differ(planner: Planner) -> None:
    budgets = {part(planner, budget_bytes=budget_bytes) for budget_bytes in range(50_000, 400_000, 5_000)}
    links = {part(planner, link_bytes_per_s=rate) for rate in range(1, 200, 10)}
    assert min(len(budgets), len(links)) > 3


def test_a_budget_that_fits_nothing_names_the_smallest_that_does(planner: Planner) -> None:
    with pytest.raises(BudgetError) as caught:
        planner.allocation(fleet_model.start(planner.layout, 0), a_ready(budget_bytes=1))
    smallest = caught.value.smallest_budget_bytes
    assert part(planner, budget_bytes=smallest) > (0, 0, 0)
    assert part(planner, budget_bytes=smallest - 1) == (0, 0, 0)


def test_a_device_behind_is_told_the_way_to_the_present_version(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    planner = make_planner(make_config(tmp_path), store)
    store.close_round(1, Checkpoint(1, b"", b"", b""), b"delta", b"")
    model = fleet_model.start(planner.layout, 0)
    model = replace(model, state=replace(model.state, version=1))
    plan = planner.plan(model, a_ready(version=0), 2)
    assert [ref.kind for ref in plan.deltas] == ["delta"]
    assert planner.plan(model, a_ready(version=1), 2).deltas == ()
    assert planner.final(model, 0).deltas == plan.deltas
    store.close()


def test_the_terms_are_those_of_the_configuration(planner: Planner, tmp_path: Path) -> None:
    config = make_config(tmp_path)
    welcome = planner.welcome
    assert (welcome.fleet, welcome.classes, welcome.slots) == (config.fleet, config.classes, config.ranks.initial)
    assert welcome.training == config.message_training()


def test_phases_that_do_not_fit_the_rounds_are_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    config = make_config(tmp_path)
    late = msgspec.structs.replace(config, ranks=msgspec.structs.replace(config.ranks, warmup_rounds=2))
    with pytest.raises(ConfigError, match="warm-up"):
        make_planner(late, store)
    store.close()


def a_planner_that_follows(folder: Path, store: Store, **ranks: Any) -> Planner:
    config = make_config(folder)
    return make_planner(msgspec.structs.replace(config, ranks=msgspec.structs.replace(config.ranks, **ranks)), store)


def test_a_target_that_follows_the_rounds_prunes_by_what_they_showed(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    planner = a_planner_that_follows(tmp_path, store, target="auto")
    model, modules = fleet_model.start(planner.layout, 0), len(planner.layout.modules)
    assert planner.rules(model, 1).budget_ranks == planner.layout.ranks, "nothing was shown yet"
    shown = replace(model, signs=(Sign(1.0, modules, 0.5),))
    expected = budget_ranks(shown.signs, planner.layout.ranks, modules)
    assert planner.rules(shown, 2).budget_ranks == expected < planner.layout.ranks
    assert planner.plan(shown, a_ready(), 2).budget_ranks == expected
    store.close()


def test_a_target_that_follows_the_rounds_keeps_as_many_ranks_as_modules(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    planner = a_planner_that_follows(tmp_path, store, target="auto")
    model = replace(fleet_model.start(planner.layout, 0), signs=(Sign(1.0, 1, 1.0),))
    for number in range(2, 9):
        budget = planner.rules(model, number).budget_ranks
        mask = keep_top(np.ones(model.state.mask.shape), model.state.mask, budget)
        model = replace(model, state=replace(model.state, mask=mask))
    assert model.state.mask.sum() == len(planner.layout.modules)
    store.close()


def test_an_automatic_threshold_is_the_share_of_votes_by_chance(tmp_path: Path) -> None:
    store = Store(tmp_path / "coordinator.db")
    planner = a_planner_that_follows(tmp_path, store, threshold="auto")
    model = fleet_model.start(planner.layout, 0)
    for number in (1, 2):
        rules = planner.rules(model, number)
        assert rules.threshold == rules.budget_ranks / planner.layout.ranks
    assert a_planner_that_follows(tmp_path, store, threshold=0.3).rules(model, 1).threshold == 0.3
    store.close()
