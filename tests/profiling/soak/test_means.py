from __future__ import annotations

import pytest

from coordinator import fleet_model
from coordinator.fleet_model import FleetModel, close_round, to_checkpoint
from edge_agent.wire import codec
from profiling.soak import means
from profiling.soak.means import Sent
from tests.coordinator.small import LAYOUT, SEED, an_update, rules

SEEDS = [1, 2, 3, 4, 5]


@pytest.fixture(scope="module")
def model() -> FleetModel:
    return close_round(fleet_model.start(LAYOUT, SEED), map(an_update, SEEDS), 1.5, rules(4)).model


def bodies(seeds: list[int], version: int = 0) -> list[bytes]:
    return [codec.encode_update(an_update(seed, version), LAYOUT) for seed in seeds]


def sent(model: FleetModel) -> Sent:
    return means.sent(to_checkpoint(model), LAYOUT)


def test_the_product_moves_its_model_by_the_plain_average(model: FleetModel) -> None:
    assert means.largest_error(means.seed(LAYOUT, SEED), sent(model), bodies(SEEDS)) < means.TOLERANCE


@pytest.mark.parametrize("seeds", [[1, 2, 3, 4], [1, 2, 3, 4, 5, 5], [1, 2, 3, 4, 4]], ids=["lost", "twice", "other"])
def test_an_update_that_is_lost_or_counts_twice_shows(model: FleetModel, seeds: list[int]) -> None:
    assert means.largest_error(means.seed(LAYOUT, SEED), sent(model), bodies(seeds)) > 100 * means.TOLERANCE


def test_what_a_broadcast_lost_belongs_to_what_was_sent(model: FleetModel) -> None:
    after = close_round(model, (an_update(seed, 1) for seed in SEEDS), 1.5, rules(4)).model
    assert means.largest_error(sent(model), sent(after), bodies(SEEDS, 1)) < means.TOLERANCE
    forgotten = Sent(sent(model).state, LAYOUT.empty_rows())
    assert means.largest_error(forgotten, sent(after), bodies(SEEDS, 1)) > means.TOLERANCE
