"""FeDeRA: the adapters are the principal part of the pretrained weights, and the start changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.ranks import HEAD
from profiling.experiments.methods.averaging import lora_rows
from profiling.experiments.methods.federa import FeDeRa, principal_factors
from tests.peers import CLIENTS, LAYOUT, a_round, a_setup, a_weight, close_to, effective

SETUP = a_setup()
TRAINABLE = ("wide", "tall")


def test_the_effective_weight_is_the_pretrained_one_at_the_start() -> None:
    model = FeDeRa().start(SETUP)
    assert close_to(effective(SETUP, model), {name: a_weight(name) for name in TRAINABLE})


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from((0.5, 1.0, 2.0)))
def test_the_adapters_are_the_best_approximation_of_the_pretrained_weights(seed: int, rank: int, scale: float) -> None:
    weight = np.random.default_rng(seed).standard_normal((5, 7)).astype(np.float32)
    left = weight - scale * principal_factors(weight, rank, scale).matrix
    smallest = np.linalg.svd(weight, compute_uv=False)[rank:]
    assert np.isclose(np.linalg.norm(left), np.sqrt((smallest**2).sum()), atol=1e-5)


def test_both_factors_of_a_rank_have_the_same_length() -> None:
    a, b = principal_factors(a_weight("wide"), 3, 2.0)
    assert np.allclose(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))


def test_modules_below_the_depth_are_left_alone() -> None:
    model = FeDeRa().start(SETUP)
    assert set(model.base) == set(TRAINABLE)
    assert not model.fleet.state.rows["low"].any()


def test_the_head_starts_as_everywhere() -> None:
    model = FeDeRa().start(SETUP)
    others = lora_rows(LAYOUT, SETUP.seed, model.fleet.state.rows)
    assert np.array_equal(model.fleet.state.rows[HEAD], others[HEAD])


def test_the_frozen_rest_never_changes() -> None:
    model = FeDeRa().start(SETUP)
    after, _ = a_round(FeDeRa(), SETUP, model, 1)
    assert all(np.array_equal(after.base[name], model.base[name]) for name in TRAINABLE)


def test_a_smaller_device_trains_the_largest_singular_values() -> None:
    model = FeDeRa().start(SETUP)
    trained = FeDeRa().task(SETUP, model, CLIENTS[2], 1).trained
    assert trained[1:].tolist() == [[True, True, False, False]] * 2
    assert not trained[0].any()
