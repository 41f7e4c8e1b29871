"""The laws of client drift."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.wire.ranks import Rows
from profiling.experiments.drift import client_drift, products
from tests.peers import LAYOUT

SMALL = 1e-3
seeds = st.integers(0, 1000)
QUICK = settings(deadline=None, max_examples=20)


def some_rows(seed: int) -> Rows:
    draws = np.random.default_rng(seed)
    return {name: draws.normal(size=(one.rows, one.width)).astype(np.float32) for name, one in LAYOUT.tables.items()}


def factored_anew(rows: Rows, factor: float) -> Rows:
    """The same products of other factors: `A` times `factor`, `B` divided by it."""
    changed = {name: table.copy() for name, table in rows.items()}
    for module in LAYOUT.modules:
        changed[module.name][:, : module.d_in] *= np.float32(factor)
        changed[module.name][:, module.d_in + 1 :] /= np.float32(factor)
    return changed


def with_product(entry: tuple[int, int], value: float) -> Rows:
    """Rows whose only product is `value` at `entry` of the first module."""
    rows, module = LAYOUT.empty_rows(), LAYOUT.modules[0]
    out, into = entry
    rows[module.name][0, [into, module.d_in, module.d_in + 1 + out]] = 1, value, 1
    return rows


@QUICK
@given(seeds, st.lists(st.integers(1, 50), min_size=1, max_size=4))
def test_clients_that_change_alike_do_not_drift(seed: int, weights: list[int]) -> None:
    before, after = some_rows(seed), some_rows(seed + 1)
    assert client_drift(LAYOUT, [(before, after, float(weight)) for weight in weights]) == pytest.approx(0, abs=SMALL)


@QUICK
@given(seeds, st.floats(0.1, 10))
def test_drift_does_not_depend_on_the_factorisation(seed: int, factor: float) -> None:
    before = some_rows(seed)
    clients = [(before, some_rows(seed + 1), 3.0), (before, some_rows(seed + 2), 1.0)]
    anew = [(factored_anew(one, factor), factored_anew(other, 1 / factor), weight) for one, other, weight in clients]
    assert client_drift(LAYOUT, anew) == pytest.approx(client_drift(LAYOUT, clients), rel=SMALL)


@QUICK
@given(seeds)
def test_drift_does_not_depend_on_the_length_of_the_changes(seed: int) -> None:
    zero = LAYOUT.empty_rows()

    def drift(length: float) -> float | None:
        return client_drift(LAYOUT, [(zero, with_product((0, n), length * (n + 1)), 1.0) for n in range(3)])

    assert drift(1.0 + seed) == pytest.approx(drift(1.0), rel=SMALL)


def test_two_clients_that_change_different_things_are_as_far_from_the_mean_as_it_is_long() -> None:
    zero = LAYOUT.empty_rows()
    clients = [(zero, with_product((0, 0), 2.0), 1.0), (zero, with_product((1, 1), 2.0), 1.0)]
    assert client_drift(LAYOUT, clients) == pytest.approx(1.0)


def test_a_client_of_three_times_the_weight_counts_as_three() -> None:
    zero = LAYOUT.empty_rows()
    one, other = (zero, with_product((0, 0), 1.0)), (zero, with_product((1, 1), 2.0))
    weighted = client_drift(LAYOUT, [(*one, 3.0), (*other, 1.0)])
    assert weighted == pytest.approx(client_drift(LAYOUT, [(*one, 1.0)] * 3 + [(*other, 1.0)]))


def test_each_change_is_from_where_its_client_began() -> None:
    first, second = some_rows(1), some_rows(2)
    stayed = (second, second, 1.0)
    assert client_drift(LAYOUT, [stayed, stayed]) is None
    moved = (LAYOUT.empty_rows(), with_product((0, 0), 1.0), 1.0)
    assert client_drift(LAYOUT, [moved, (first, first, 1.0)]) == pytest.approx(1.0)


def test_without_a_mean_change_there_is_no_drift() -> None:
    zero = LAYOUT.empty_rows()
    assert client_drift(LAYOUT, [(zero, zero, 1.0)]) is None
    opposite = [(zero, with_product((0, 0), sign), 1.0) for sign in (1.0, -1.0)]
    assert client_drift(LAYOUT, opposite) is None


def test_products_are_those_of_the_adapted_layers() -> None:
    rows = some_rows(3)
    for module in LAYOUT.modules:
        expected = sum(
            np.outer(row[module.d_in + 1 :], row[module.d_in] * row[: module.d_in]) for row in rows[module.name]
        )
        np.testing.assert_allclose(products(LAYOUT, rows)[module.name], expected, rtol=1e-4, atol=1e-5)
    assert products(LAYOUT, LAYOUT.empty_rows()) == {}
