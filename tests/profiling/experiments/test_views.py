"""Views of the ranks: what is left out comes back, and what is sent holds only what was chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import fleet_model
from coordinator.fleet_model import FleetModel
from edge_agent.wire import rowset
from edge_agent.wire import state as states
from edge_agent.wire.ranks import HEAD, Rows
from profiling.experiments.method import ALL, Model, Parts, Task
from profiling.experiments.views import merge, merge_model, project, project_model, view_of
from tests.peers import CLIENTS, LAYOUT, a_setup, an_upload

some_parts = st.builds(Parts, st.booleans(), st.booleans(), st.booleans()).filter(any)
seeds = st.integers(0, 1000)
QUICK = settings(deadline=None, max_examples=30)


def some_rows(seed: int) -> Rows:
    draws = np.random.default_rng(seed)
    return {name: draws.random((one.rows, one.width)).astype(np.float32) for name, one in LAYOUT.tables.items()}


def a_model(seed: int) -> FleetModel:
    model = fleet_model.start(LAYOUT, seed)
    return replace(model, state=replace(model.state, rows=some_rows(seed)), residual=some_rows(seed + 1))


def same(left: Rows, right: Rows) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def test_the_view_of_all_parts_is_the_layout_itself() -> None:
    assert view_of(LAYOUT, ALL) is LAYOUT


@QUICK
@given(some_parts, seeds)
def test_merging_what_was_projected_gives_the_rows_back(parts: Parts, seed: int) -> None:
    rows = some_rows(seed)
    assert same(merge(LAYOUT, rows, project(LAYOUT, rows, parts), parts), rows)


@QUICK
@given(some_parts, seeds)
def test_projecting_what_was_merged_gives_the_chosen_parts_back(parts: Parts, seed: int) -> None:
    chosen = project(LAYOUT, some_rows(seed + 1), parts)
    assert same(project(LAYOUT, merge(LAYOUT, some_rows(seed), chosen, parts), parts), chosen)


@QUICK
@given(some_parts, seeds)
def test_merging_leaves_the_other_parts_alone(parts: Parts, seed: int) -> None:
    rows, others = some_rows(seed), Parts(*(not one for one in parts))
    merged = merge(LAYOUT, rows, project(LAYOUT, some_rows(seed + 1), parts), parts)
    for module in LAYOUT.modules:
        left, right = (project(LAYOUT, one, others)[module.name] for one in (merged, rows))
        assert np.array_equal(left, right)


@QUICK
@given(some_parts)
def test_a_table_of_a_view_is_as_wide_as_the_projected_rows(parts: Parts) -> None:
    rows = project(LAYOUT, some_rows(0), parts)
    assert {name: table.width for name, table in view_of(LAYOUT, parts).tables.items()} == {
        name: table.shape[1] for name, table in rows.items()
    }


@pytest.mark.parametrize("parts", [Parts(e=False), Parts(a=False, e=False), Parts(b=False), ALL])
def test_an_update_through_a_view_holds_only_the_chosen_parts(parts: Parts) -> None:
    setup, model = a_setup(), Model(fleet_model.start(LAYOUT, 0))
    upload = an_upload(setup, model, CLIENTS[0], Task(setup.alive, parts), 1)
    whole = an_upload(setup, model, CLIENTS[0], Task(setup.alive), 1)
    values = upload.update.changes.rows()
    for name, places in rowset.chosen(LAYOUT, setup.alive, upload.update.changes.classes).items():
        assert values[name].shape == (len(places), view_of(LAYOUT, parts).tables[name].width)
    assert (len(upload.body) < len(whole.body)) == (parts != ALL)


@QUICK
@given(some_parts, seeds)
def test_a_model_comes_back_from_its_view(parts: Parts, seed: int) -> None:
    model = a_model(seed)
    back = merge_model(model, project_model(model, parts), parts)
    assert states.digest(back.state) == states.digest(model.state)
    assert same(back.residual, model.residual)


@pytest.mark.parametrize("parts", [Parts(e=False), Parts(a=False, e=False), ALL])
def test_ranks_that_were_pruned_in_a_view_are_zero_in_all_parts(parts: Parts) -> None:
    model = a_model(0)
    seen = project_model(model, parts)
    mask = np.arange(LAYOUT.ranks).reshape(seen.state.mask.shape) % 2 == 0
    after = merge_model(model, replace(seen, state=replace(seen.state, mask=mask)), parts)
    for module, pruned in LAYOUT.living(~mask):
        assert not after.state.rows[module.name][pruned].any()
    for module, alive in LAYOUT.living(mask):
        assert np.array_equal(after.state.rows[module.name][alive], model.state.rows[module.name][alive])
    assert same({HEAD: after.state.rows[HEAD]}, {HEAD: model.state.rows[HEAD]})
