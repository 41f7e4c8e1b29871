"""Clients train by the product's trainer on their own data, and only what they were told to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinator import fleet_model
from edge_agent.trainer import Trained
from edge_agent.wire import messages as m
from edge_agent.wire.ranks import HEAD, compact
from edge_agent.wire.state import ModelState
from profiling.experiments.clients import Clients
from profiling.experiments.method import ALL, Parts, Task
from profiling.experiments.settings import Options, Profile
from tests.experiments import make_run, write_dataset
from tests.models import BLOCKS, tiny_pack

SPEED = m.Speed(8, (100.0, 1.0, 0.0), (100.0, 1.0, 0.0))
DEVICE = m.CostTable(1, 1, 1, 1, 1, 50.0, (SPEED,), 1)
PROFILE = Profile(rounds=2, clients=3, cohort=2, depth=2, test_rows=0, rank_shares=(1.0, 0.5), device=DEVICE)
OPTIONS = msgspec.convert(
    {"ranks": {"initial": 2}, "training": {"local_steps": 2, "batch_size": 4, "max_tokens": 16}}, Options
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    write_dataset(folder / "data")
    return folder


@pytest.fixture(scope="module")
def clients(folder: Path) -> Clients:
    return make_clients(folder)


def make_clients(folder: Path, **profile: Any) -> Clients:
    changed = msgspec.structs.replace(PROFILE, **profile)
    run = make_run(options=OPTIONS, profile=changed, alpha=1.0)
    return Clients(run, tiny_pack(), str(folder / "data"), folder / "cache")


def a_state(clients: Clients) -> ModelState:
    """A state in which every part of a rank has a gradient."""
    state = fleet_model.start(clients.layout, 0).state
    rows = {name: table.copy() for name, table in state.rows.items()}
    for module, slots in clients.layout.living(clients.alive):
        rows[module.name][slots, module.d_in] = 0.1
    for module, dead in clients.layout.living(~clients.alive):
        rows[module.name][dead] = 0
    return replace(state, mask=clients.alive, rows=rows)


def trained_by(clients: Clients, task: Task, number: int = 1) -> Trained:
    return clients.train(clients.all[0], task, a_state(clients), number)


def test_clients_take_the_shares_of_the_profile_in_turn(clients: Clients) -> None:
    assert [one.rank_share for one in clients.all] == [1.0, 0.5, 1.0]
    assert [one.number for one in clients.all] == [0, 1, 2]
    assert sum(one.examples for one in clients.all) == 30


@pytest.mark.parametrize("depth", [1, 2, BLOCKS, BLOCKS + 5])
def test_ranks_live_in_the_blocks_of_the_profiles_depth(folder: Path, depth: int) -> None:
    clients = make_clients(folder, depth=depth)
    blocks = {module.block for module, slots in clients.layout.living(clients.alive) if len(slots)}
    assert blocks == set(range(max(0, BLOCKS - depth), BLOCKS))


def test_the_same_training_gives_the_same_rows(clients: Clients) -> None:
    first, again, next_round = (trained_by(clients, Task(clients.alive), number) for number in (1, 1, 2))
    assert all(np.array_equal(first.rows[name], again.rows[name]) for name in first.rows)
    assert first.loss == again.loss
    assert not np.array_equal(first.rows[HEAD], next_round.rows[HEAD]), "other batches"


@pytest.mark.parametrize("parts", [ALL, Parts(e=False), Parts(a=False, e=False), Parts(b=False)])
def test_only_the_chosen_parts_learn(clients: Clients, parts: Parts) -> None:
    before = compact(clients.layout, a_state(clients).rows, clients.alive)
    after = trained_by(clients, Task(clients.alive, parts)).rows
    for module, slots in clients.layout.living(clients.alive):
        if len(slots):
            changed = (after[module.name] != before[module.name]).any(axis=0)
            edges = module.d_in, module.d_in + 1
            assert tuple(part.any() for part in np.split(changed, edges)) == tuple(parts)


@pytest.mark.parametrize("head", [True, False])
def test_the_head_learns_where_the_task_says_so(clients: Clients, head: bool) -> None:
    after = trained_by(clients, Task(clients.alive, head=head)).rows[HEAD]
    assert np.array_equal(after, a_state(clients).rows[HEAD]) == (not head)


def test_only_the_ranks_of_the_task_learn(clients: Clients) -> None:
    some = clients.alive.copy()
    some[:, 0] = False
    before = compact(clients.layout, a_state(clients).rows, clients.alive)
    after = trained_by(clients, Task(some)).rows
    for module, slots in clients.layout.living(clients.alive):
        if len(slots):
            assert np.array_equal(after[module.name][0], before[module.name][0])
            assert not np.array_equal(after[module.name][1], before[module.name][1])


def test_a_task_may_score_by_another_rule(clients: Clients) -> None:
    by_magnitude, by_energy = (trained_by(clients, Task(clients.alive, importance=rule)) for rule in (None, "energy"))
    assert not np.array_equal(by_magnitude.scores, by_energy.scores)
    assert all(np.array_equal(by_magnitude.rows[name], by_energy.rows[name]) for name in by_energy.rows)


def test_states_that_others_left_change_nothing(folder: Path, clients: Clients, tmp_path: Path) -> None:
    run = make_run(options=OPTIONS, profile=PROFILE, alpha=1.0)
    fresh = Clients(run, tiny_pack(), str(folder / "data"), tmp_path)
    first, second = (trained_by(one, Task(clients.alive)) for one in (clients, fresh))
    for name in first.rows:
        np.testing.assert_allclose(first.rows[name], second.rows[name], atol=1e-5)


def test_class_means_come_with_their_shares(clients: Clients) -> None:
    means = clients.class_statistics(clients.all[0], a_state(clients), axes=False)[HEAD]
    assert means[: clients.layout.classes, -1].sum() == pytest.approx(1)
    assert not means[clients.layout.classes :].any()


def test_statistics_of_the_pretrained_model_are_looked_up_and_the_same(clients: Clients) -> None:
    seed = fleet_model.start(clients.layout, 0).state
    hardly = {name: table.copy() for name, table in seed.rows.items()}
    hardly[clients.layout.modules[-1].name][0, clients.layout.modules[-1].d_in] = 1e-12
    looked_up, computed = (
        clients.class_statistics(clients.all[0], replace(seed, rows=rows), axes=False)[HEAD]
        for rows in (seed.rows, hardly)
    )
    np.testing.assert_allclose(looked_up, computed, atol=1e-5)


def test_accuracy_is_that_of_the_test_sample(clients: Clients) -> None:
    state = a_state(clients)
    assert 0 <= clients.accuracy(state) <= 1
    always_first = {**state.rows, HEAD: np.zeros_like(state.rows[HEAD])}
    always_first[HEAD][0, -1] = 1
    assert clients.accuracy(replace(state, rows=always_first)) == pytest.approx(1 / 3)


def test_without_a_device_no_time_is_modelled(folder: Path) -> None:
    clients = make_clients(folder, device=None)
    assert clients.training_s(clients.all[0], [clients.alive], 1) is None
    assert clients.looking_s(clients.all[0], 1) is None


def test_modelled_time_is_that_of_all_masks_and_bytes(clients: Clients) -> None:
    client, alive = clients.all[0], clients.alive
    once_s, twice_s, later_s = (
        clients.training_s(client, masks, transferred_bytes)
        for masks, transferred_bytes in (([alive], 0), ([alive, alive], 0), ([alive], PROFILE.link_bytes_per_s))
    )
    assert once_s is not None and twice_s == pytest.approx(2 * once_s)
    assert later_s == pytest.approx(once_s + 1)
    looking_s = clients.looking_s(client, PROFILE.link_bytes_per_s)
    assert looking_s is not None and looking_s > 1
