from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator import fleet_model
from coordinator.config import GuardSettings
from coordinator.fleet_model import Rules
from coordinator.guard import root_mean_square
from edge_agent.wire import codec
from edge_agent.wire import messages as m
from edge_agent.wire import state as states
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.pack import module_layout
from edge_agent.wire.quantise import find_scheme
from edge_agent.wire.ranks import Layout, pack_mask
from profiling.soak.faults import UNUSABLE, Fault
from profiling.soak.settings import CLASSES, SLOTS, write_pack
from profiling.soak.training import States, Trained, train


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return module_layout(write_pack(tmp_path), SLOTS, len(CLASSES))


def trained(layout: Layout, fault: Fault | None, seed: int = 0) -> Trained:
    state = states.seed_state(layout, 0)
    mask = pack_mask(layout.full_mask())
    plan = m.Plan(1, 5, 0, (), states.digest(state), "train", mask, layout.ranks // 2, 0, 60.0, 0)
    return train(plan, state, layout.empty_rows(), np.random.default_rng(seed), fault)


def decoded(layout: Layout, made: Trained) -> codec.Update:
    return codec.decode_update(made.body, layout, limit_bytes=codec.update_limit_bytes(layout))


def test_an_update_is_one_that_the_product_takes_and_follows_from_the_draws(layout: Layout) -> None:
    made = trained(layout, None)
    update = decoded(layout, made)
    assert made.usable and (update.round, update.version, update.examples) == (1, 0, made.report.examples)
    assert 0 < root_mean_square(update) < GuardSettings().rms_limit
    assert trained(layout, None).sha256 == made.sha256 != trained(layout, None, seed=1).sha256


@pytest.mark.parametrize("fault", UNUSABLE)
def test_an_update_that_must_not_count_is_one_that_can_be_told(layout: Layout, fault: Fault) -> None:
    made = trained(layout, fault)
    assert not made.usable
    if fault in {Fault.DAMAGED, Fault.NOT_FINITE, Fault.TOO_LARGE}:
        with pytest.raises(PayloadError, match={Fault.NOT_FINITE: "not finite"}.get(fault)):
            decoded(layout, made)
        return
    update = decoded(layout, made)
    told = update.round != made.round or update.examples != made.report.examples
    assert told or root_mean_square(update) > GuardSettings().rms_limit


def test_states_that_devices_share_are_those_that_each_would_come_to(layout: Layout) -> None:
    model = fleet_model.start(layout, 7)
    update = decoded(layout, trained(layout, None))
    closing = fleet_model.close_round(model, [update], 1.0, Rules(layout.ranks - 1, 0.5, find_scheme("int8")))
    shared = States(layout, 7)
    after = shared.follow(shared.seed, closing.delta)
    assert shared.digest(after) == states.digest(after) == states.digest(closing.model.state)
    assert shared.follow(shared.seed, closing.delta) is after
    assert shared.follow(after, closing.delta) is after
    assert shared.digest(shared.follow(shared.seed, states.to_bytes(after))) == states.digest(after)
    with pytest.raises(PayloadError, match="does not fit"):
        shared.follow(fleet_model.start(layout, 8).state, _later(layout, closing.model))


def _later(layout: Layout, model: fleet_model.FleetModel) -> bytes:
    """A delta that starts where `model` is."""
    update = codec.Update(
        2, 1, 1, layout.full_mask() & False, np.zeros(layout.full_mask().shape, np.float32),
        decoded(layout, trained(layout, None)).changes,
    )  # fmt: skip
    return fleet_model.close_round(model, [update], 1.0, Rules(layout.ranks - 1, 0.5, find_scheme("int8"))).delta
