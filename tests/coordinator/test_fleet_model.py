"""The fleet's model: what a round does to it, and how it comes back from a checkpoint."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet_model
from coordinator.arbitrate import cast, empty_ballot
from coordinator.automatic import read_sign
from coordinator.fleet_model import Rules, close_round, from_checkpoint, importance_from, start_head, to_checkpoint
from coordinator.head_start import ClassStatistics
from edge_agent.update import Part, make_statistics
from edge_agent.wire import state as states
from edge_agent.wire.codec import Update, apply_delta, decode_delta
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout
from edge_agent.wire.rowset import VALUE_LIMIT, quantise_rows
from tests.coordinator.small import LAYOUT, SCHEME, after_a_round, an_update, rules, same


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=5, unique=True), st.randoms())
def test_the_order_of_updates_does_not_matter(seeds: list[int], random: Random) -> None:
    shuffled = list(seeds)
    random.shuffle(shuffled)
    assert same(after_a_round(seeds), after_a_round(shuffled))


def test_the_delta_leads_from_the_old_state_to_the_new_to_the_bit() -> None:
    model = fleet_model.start(LAYOUT, 1)
    closing = close_round(model, [an_update(1), an_update(2)], 1.5, rules(4))
    state = apply_delta(model.state, decode_delta(closing.delta, LAYOUT))
    assert states.digest(state) == states.digest(closing.model.state)
    assert (state.version, int(state.mask.sum())) == (1, 4)


def test_pruned_ranks_keep_neither_residual_nor_importance() -> None:
    model = after_a_round([1, 2, 3], budget=2)
    pruned = ~model.state.mask
    assert not model.importance[pruned].any()
    for module, slots in LAYOUT.living(pruned):
        assert not model.residual[module.name][slots].any()


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_a_checkpoint_brings_the_model_back_to_the_bit(seed: int, budget: int) -> None:
    model = after_a_round([seed, seed + 1], budget)
    assert same(from_checkpoint(to_checkpoint(model), LAYOUT), model)


def test_a_model_from_a_checkpoint_goes_on_like_the_original() -> None:
    model = after_a_round([1, 2])
    restored = from_checkpoint(to_checkpoint(model), LAYOUT)
    ranks = model.state.mask
    change = {m.name: np.full((len(s), m.width), 0.1, dtype=np.float32) for m, s in LAYOUT.living(ranks)}
    change[HEAD] = np.ones((2, 5), dtype=np.float32)
    rows, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEME)
    update = Update(2, 1, 10, ranks, ranks.astype(np.float32), rows)
    closings = [close_round(one, [update], 1.5, rules(2)) for one in (model, restored)]
    assert closings[0].delta == closings[1].delta
    assert same(closings[0].model, closings[1].model)


def test_a_checkpoint_of_another_layout_is_refused() -> None:
    checkpoint = to_checkpoint(fleet_model.start(LAYOUT, 1))
    other = Layout(LAYOUT.modules, slots=4, classes=2, d_model=4)
    other_modules = Layout((*LAYOUT.modules, LAYOUT.modules[0]), slots=3, classes=2, d_model=4)
    with pytest.raises(PayloadError, match="layout"):
        from_checkpoint(checkpoint, other)
    with pytest.raises(PayloadError, match="9 scores, got 6"):
        importance_from(checkpoint, other_modules)


@settings(deadline=None)
@given(st.sampled_from(["state", "residual", "scores"]), st.integers(0, 10**6), st.integers(1, 255))
def test_a_checkpoint_of_which_a_byte_is_altered_is_refused(part: str, place: int, by: int) -> None:
    checkpoint = to_checkpoint(after_a_round([1, 2]))
    body = bytearray(getattr(checkpoint, part))
    body[place % len(body)] ^= by
    with pytest.raises(PayloadError):
        from_checkpoint(checkpoint._replace(**{part: bytes(body)}), LAYOUT)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_no_update_that_is_accepted_stops_the_fleet(scheme: str) -> None:
    # What the first leaves as residual would make the second more than can travel.
    model, ranks = fleet_model.start(LAYOUT, 1), LAYOUT.full_mask()
    for value in (0.995 * VALUE_LIMIT, VALUE_LIMIT):
        change = {name: np.full(table.shape, VALUE_LIMIT, np.float32) for name, table in LAYOUT.empty_rows().items()}
        for table in change.values():
            table[:, 0] = value
        rows, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEMES["fp32"])
        version = model.state.version
        update = Update(version + 1, version, 10, ranks, ranks.astype(np.float32), rows)
        model = close_round(model, [update], 1.5, Rules(6, 0.5, SCHEMES[scheme])).model
    assert model.state.version == 2


def test_every_round_of_training_leaves_its_sign() -> None:
    start, updates = fleet_model.start(LAYOUT, 1), [an_update(1), an_update(2)]
    ballot = empty_ballot(LAYOUT)
    for update in updates:
        ballot = cast(ballot, update)
    importance = ballot.importance(start.importance)
    first = close_round(start, updates, 1.5, rules(4)).model
    assert first.signs == (read_sign(1.5, start.state.mask, ballot, importance, 4),)
    second = close_round(first, [], 1.2, rules(4)).model
    assert (second.signs[0], second.signs[1].loss) == (first.signs[0], 1.2)


def test_a_round_without_training_leaves_no_sign() -> None:
    trained = after_a_round([1])
    assert close_round(trained, [], None, rules(4)).model.signs == trained.signs
    means = fleet_model.start_head(trained, [], SCHEME).model
    assert means.signs == trained.signs


def class_means(seed: int) -> Update:
    """The class means of a device."""
    generator = np.random.default_rng(seed)
    table = generator.standard_normal((4, 5)).astype(np.float32)
    table[:, -1] = 0.5
    state = states.seed_state(LAYOUT, 1)
    return make_statistics(Part(1, state.mask, 4, 20, SCHEME), state, {HEAD: table})


def test_the_start_of_the_head_travels_as_a_delta_and_leaves_the_ranks_alone() -> None:
    model, updates = fleet_model.start(LAYOUT, 1), [class_means(1), class_means(2)]
    closing = start_head(model, updates, SCHEME)
    state = apply_delta(model.state, decode_delta(closing.delta, LAYOUT))
    assert states.digest(state) == states.digest(closing.model.state)
    assert state.version == 1 and (state.mask == model.state.mask).all()
    assert all(np.array_equal(state.rows[one.name], model.state.rows[one.name]) for one in LAYOUT.modules)
    assert np.array_equal(closing.model.importance, model.importance) and closing.model.signs == model.signs
    means = ClassStatistics(LAYOUT)
    for update in updates:
        means.add(update)
    head = closing.model.residual[HEAD] + state.rows[HEAD]
    assert np.allclose(head, means.head(model.state.rows[HEAD]), atol=1e-5)
