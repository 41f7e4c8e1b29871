from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.importance import RULES, make_scorer
from edge_agent.wire.errors import ConfigError
from edge_agent.wire.ranks import Layout, Module, Rows, compact
from edge_agent.wire.rng import generator

LAYOUT = Layout((Module("low", 0, 6, 4), Module("high", 1, 4, 8)), slots=3, classes=2, d_model=4)
TRAINED = np.array([[True, False, True], [False, False, False]])


def _rows(seed: int, trained: np.ndarray = TRAINED) -> Rows:
    full = {t.name: generator(seed, t.name).gaussian((t.rows, t.width), 1.0) for t in LAYOUT.tables.values()}
    return compact(LAYOUT, full, trained)


def _dense(row: np.ndarray, module: Module) -> np.ndarray:
    a, e, b = row[: module.d_in], row[module.d_in], row[module.d_in + 1 :]
    return e * np.outer(b, a)


@given(st.integers(0, 100))
def test_magnitude_is_the_norm_of_the_dense_contribution(seed: int) -> None:
    rows = _rows(seed)
    scores = make_scorer("magnitude", LAYOUT, TRAINED).scores(rows, rows)
    expected = [np.linalg.norm(_dense(row, LAYOUT.modules[0])) for row in rows["low"].astype(np.float64)]
    assert np.allclose(scores[0, [0, 2]], expected)


@given(st.integers(0, 100))
def test_energy_is_the_norm_of_the_dense_change(seed: int) -> None:
    before, after = _rows(seed), _rows(seed + 1000)
    scores = make_scorer("energy", LAYOUT, TRAINED).scores(before, after)
    pairs = zip(before["low"].astype(np.float64), after["low"].astype(np.float64), strict=True)
    module = LAYOUT.modules[0]
    expected = [np.linalg.norm(_dense(new, module) - _dense(old, module)) for old, new in pairs]
    assert np.allclose(scores[0, [0, 2]], expected)


def test_energy_of_a_rank_that_did_not_change_is_nothing() -> None:
    rows = _rows(1)
    assert np.allclose(make_scorer("energy", LAYOUT, TRAINED).scores(rows, rows), 0, atol=1e-6)


def test_sensitivity_follows_adalora_s_recursion() -> None:
    scorer = make_scorer("sensitivity", LAYOUT, TRAINED)
    smooth = uncertainty = np.zeros(2)
    for step in range(5):
        rows, gradients = _rows(step), _rows(step + 50)
        scorer.observe(rows, gradients)
        product = np.abs(rows["low"].astype(np.float64) * gradients["low"])
        now = product[:, 6] + product[:, :6].mean(axis=1) + product[:, 7:].mean(axis=1)
        smooth = 0.85 * smooth + 0.15 * now
        uncertainty = 0.85 * uncertainty + 0.15 * np.abs(now - smooth)
    scores = scorer.scores(rows, rows)
    assert np.allclose(scores[0, [0, 2]], smooth * uncertainty)


@pytest.mark.parametrize("rule", RULES)
def test_another_scorer_with_the_same_tables_scores_the_same_to_the_bit(rule: str) -> None:
    first, second = (make_scorer(rule, LAYOUT, TRAINED) for _ in range(2))
    for step in range(3):
        first.observe(_rows(step), _rows(step + 50))
    for name, table in second.tables().items():
        table[...] = first.tables()[name]
    for scorer in (first, second):
        scorer.observe(_rows(3), _rows(53))
    assert (first.scores(_rows(0), _rows(3)) == second.scores(_rows(0), _rows(3))).all()


@pytest.mark.parametrize("rule", RULES)
def test_ranks_that_were_not_trained_score_nothing(rule: str) -> None:
    scorer = make_scorer(rule, LAYOUT, TRAINED)
    scorer.observe(_rows(1), _rows(2))
    scores = scorer.scores(_rows(1), _rows(2))
    assert scores.shape == (2, 3)
    assert ((scores > 0) == TRAINED).all()


@pytest.mark.parametrize("rule", RULES)
def test_scores_do_not_depend_on_who_else_is_trained(rule: str) -> None:
    alone, everyone = TRAINED, LAYOUT.full_mask()
    found = []
    for trained in (alone, everyone):
        scorer = make_scorer(rule, LAYOUT, trained)
        scorer.observe(_rows(3, trained), _rows(4, trained))
        found.append(scorer.scores(_rows(5, trained), _rows(6, trained))[alone])
    assert np.allclose(*found, rtol=1e-12)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match="magnitude, sensitivity, energy"):
        make_scorer("luck", LAYOUT, TRAINED)
