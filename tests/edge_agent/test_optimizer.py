from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_agent.optimizer import AdamW, Rates
from edge_agent.selection import trained_positions
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows, compact
from edge_agent.wire.rng import generator
from edge_agent.wire.state import seed_state

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=4, classes=3, d_model=5)
LIVING = np.array([[True, True, False, True], [True, False, True, True]])
TRAINED = np.array([[True, False, False, True], [False, False, False, True]])
RATES = Rates(a=1e-3, e=2e-2, b=3e-3, head=5e-3, weight_decay=0.1, epsilon=1e-8)


def _gradients(step: int, rows: Rows) -> Rows:
    draws = generator(9, "gradient", step)
    return {name: draws.gaussian(table.shape, 0.1) for name, table in rows.items()}


def _rows() -> Rows:
    return compact(LAYOUT, seed_state(LAYOUT, 2).rows, LIVING)


def _optimizer(rates: Rates = RATES) -> AdamW:
    return AdamW(LAYOUT, trained_positions(LAYOUT, LIVING, TRAINED), rates)


def _torch_steps(steps: int, epsilon: float) -> Rows:
    """The same run by torch: one parameter group for each learning rate."""
    torch = pytest.importorskip("torch", reason="torch is the oracle of this test: install the `pack` extra")
    rows = _rows()
    parts = {}
    for module in LAYOUT.modules:
        table = torch.tensor(rows[module.name])
        parts[module.name] = [table[:, : module.d_in], table[:, [module.d_in]], table[:, module.d_in + 1 :]]
    parts[HEAD] = [torch.tensor(rows[HEAD])]
    for tensor in (t for tensors in parts.values() for t in tensors):
        tensor.requires_grad_()
    groups = [
        {"params": [parts[m.name][0] for m in LAYOUT.modules], "lr": RATES.a},
        {"params": [parts[m.name][1] for m in LAYOUT.modules], "lr": RATES.e},
        {"params": [parts[m.name][2] for m in LAYOUT.modules], "lr": RATES.b},
        {"params": parts[HEAD], "lr": RATES.head},
    ]
    oracle = torch.optim.AdamW(groups, weight_decay=RATES.weight_decay, eps=epsilon)
    for step in range(steps):
        for name, gradient in _gradients(step, rows).items():
            widths = [t.shape[1] for t in parts[name]]
            for tensor, part in zip(parts[name], torch.tensor(gradient).split(widths, dim=1), strict=True):
                tensor.grad = part.clone()
        oracle.step()
    return {name: torch.cat([t.detach() for t in tensors], dim=1).numpy() for name, tensors in parts.items()}


@pytest.mark.parametrize("epsilon", [1e-8, 1e-3])
def test_trained_rows_go_where_torch_takes_them(epsilon: float) -> None:
    rows, optimizer = _rows(), _optimizer(dataclasses.replace(RATES, epsilon=epsilon))
    for step in range(20):
        optimizer.step(rows, _gradients(step, rows))
    expected = _torch_steps(20, epsilon)
    for name, places in {**trained_positions(LAYOUT, LIVING, TRAINED), HEAD: slice(None)}.items():
        assert np.allclose(rows[name][places], expected[name][places], rtol=1e-5, atol=1e-6)


def test_frozen_rows_are_untouched() -> None:
    rows, before, optimizer = _rows(), _rows(), _optimizer()
    optimizer.step(rows, _gradients(0, rows))
    assert np.array_equal(rows["low"][1], before["low"][1])
    assert np.array_equal(rows["high"][:2], before["high"][:2])
    assert (rows["low"][[0, 2]] != before["low"][[0, 2]]).all()


def test_modules_that_train_nothing_need_no_gradient() -> None:
    rows = _rows()
    trained = TRAINED.copy()
    trained[0] = False
    optimizer = AdamW(LAYOUT, trained_positions(LAYOUT, LIVING, trained), RATES)
    gradients = _gradients(0, rows)
    del gradients["low"]
    optimizer.step(rows, gradients)
    assert np.array_equal(rows["low"], _rows()["low"])


def test_a_zero_gradient_leaves_only_the_decay() -> None:
    rows, before, optimizer = _rows(), _rows(), _optimizer()
    optimizer.step(rows, {name: np.zeros_like(table) for name, table in rows.items()})
    assert np.allclose(rows[HEAD], before[HEAD] * (1 - RATES.head * RATES.weight_decay), rtol=1e-6)


@pytest.mark.parametrize("part", ["a", "e", "b", "head"])
def test_a_part_whose_rate_is_zero_stays_as_it_is(part: str) -> None:
    rates = dataclasses.replace(RATES, **{part: 0.0})
    rows, before = _rows(), _rows()
    optimizer = AdamW(LAYOUT, trained_positions(LAYOUT, LIVING, TRAINED), rates)
    for step in range(3):
        optimizer.step(rows, _gradients(step, rows))
    moved = {"head": bool((rows[HEAD] != before[HEAD]).any())}
    for name, columns in (("a", slice(0, 6)), ("e", slice(6, 7)), ("b", slice(7, None))):
        moved[name] = bool((rows["low"][[0, 2], columns] != before["low"][[0, 2], columns]).any())
    assert moved == {name: name != part for name in moved}


def test_the_first_step_has_the_length_of_the_learning_rate() -> None:
    rows = _rows()
    optimizer = AdamW(LAYOUT, trained_positions(LAYOUT, LIVING, TRAINED), Rates(1e-3, 2e-2, 1e-3, 5e-3, 0.0, 1e-8))
    before = {name: table.copy() for name, table in rows.items()}
    optimizer.step(rows, {name: np.ones_like(table) for name, table in rows.items()})
    moved = before["low"][0] - rows["low"][0]
    assert np.allclose(np.delete(moved, 6), 1e-3, rtol=1e-3)
    assert np.isclose(moved[6], 2e-2, rtol=1e-3)
    assert np.allclose(before[HEAD] - rows[HEAD], 5e-3, rtol=1e-3)


def test_gradients_well_below_epsilon_move_little() -> None:
    rows, before = _rows(), _rows()
    optimizer = _optimizer(dataclasses.replace(RATES, weight_decay=0.0, epsilon=1e-3))
    optimizer.step(rows, {name: np.full_like(table, 1e-6) for name, table in rows.items()})
    assert np.allclose(before[HEAD] - rows[HEAD], RATES.head * 1e-3, rtol=0.01)


def test_another_optimizer_with_the_same_moments_and_count_goes_on_to_the_bit() -> None:
    rows, first, second = _rows(), _optimizer(), _optimizer()
    for step in range(3):
        first.step(rows, _gradients(step, rows))
    for name, table in second.tables().items():
        table[...] = first.tables()[name]
    second.go_on_after(3)
    others = {name: table.copy() for name, table in rows.items()}
    first.step(rows, _gradients(3, rows))
    second.step(others, _gradients(3, others))
    assert all((rows[name] == others[name]).all() for name in rows)
