from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.container import Kind, unseal
from edge_agent.wire.errors import PayloadError
from edge_agent.wire.quantise import SCHEMES, Scheme
from edge_agent.wire.ranks import HEAD
from profiling.experiments.method import Parts, Task
from profiling.experiments.methods import factors
from profiling.experiments.methods.averaging import LoraStart
from profiling.experiments.methods.factors import Coarse, Factors
from tests.profiling.experiments.methods.fleet import LAYOUT, make_client, make_setup, train, with_learned

MODULE = LAYOUT.modules[0]


@st.composite
def made_factors(draw: st.DrawFn) -> Factors:
    """Factors of any rank, that of the matrix and more included, some with zeros or repeats."""
    count, d_in, d_out = draw(st.integers(1, 9)), draw(st.integers(2, 7)), draw(st.integers(2, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    a, b = rng.normal(size=(count, d_in)), rng.normal(size=(count, d_out))
    b[: draw(st.integers(0, count))] *= draw(st.sampled_from([0.0, 1.0, 1e-3]))
    return Factors(a, b)


@given(made_factors(), st.integers(1, 10))
def test_truncation_is_the_best_approximation(made: Factors, rank: int) -> None:
    u, values, vt = np.linalg.svd(made.matrix)
    kept = min(rank, len(values))
    best = (u[:, :kept] * values[:kept]) @ vt[:kept]
    found = factors.truncate(made, rank)
    assert len(found.a) == len(found.b) <= rank
    np.testing.assert_allclose(
        np.linalg.norm(made.matrix - found.matrix), np.linalg.norm(made.matrix - best), atol=1e-9
    )


@given(made_factors())
def test_truncated_rows_are_orthogonal_and_sorted(made: Factors) -> None:
    found = factors.truncate(made, 10)
    np.testing.assert_allclose(found.a @ found.a.T, np.eye(len(found.a)), atol=1e-9)
    lengths = np.linalg.norm(found.b, axis=1)
    assert (np.diff(lengths) <= 1e-9).all()


@given(made_factors())
def test_norm_is_that_of_the_matrix(made: Factors) -> None:
    np.testing.assert_allclose(made.norm, np.linalg.norm(made.matrix), atol=1e-6)


@given(made_factors(), st.integers(0, 2**32))
def test_alignment_leaves_the_matrix(made: Factors, seed: int) -> None:
    previous = np.random.default_rng(seed).normal(size=made.a.shape)
    found = factors.aligned(made, previous)
    np.testing.assert_array_equal(found.matrix, made.matrix)
    assert (np.einsum("ij,ij->i", found.a, previous) >= 0).all()


def test_stack_is_the_weighted_sum_of_any_ranks() -> None:
    rng = np.random.default_rng(0)
    parts = [Factors(rng.normal(size=(n, 5)), rng.normal(size=(n, 4))) for n in (1, 3, 2)]
    expected = 0.2 * parts[0].matrix + 0.5 * parts[1].matrix + 0.3 * parts[2].matrix
    np.testing.assert_allclose(factors.stack(parts, [0.2, 0.5, 0.3]).matrix, expected)


def test_rows_and_factors_are_one_matrix() -> None:
    rows = np.random.default_rng(0).normal(size=(3, MODULE.width)).astype(np.float32)
    made = factors.from_rows(MODULE, rows)
    np.testing.assert_allclose(factors.from_rows(MODULE, factors.to_rows(made)).matrix, made.matrix, atol=1e-6)


def test_trained_rows_are_start_and_change() -> None:
    setup = make_setup()
    model = with_learned(setup, LoraStart().start(setup))
    trained = LAYOUT.full_mask()
    trained[0, :2] = False
    task = Task(trained, Parts(e=False))
    upload, after = train(setup, model, task, make_client(0))
    found = factors.trained_rows(model.fleet.state, upload.update, task.parts)
    np.testing.assert_array_equal(found["0.query"], after["0.query"][2:])
    np.testing.assert_array_equal(found["1.output"], after["1.output"])


def test_residual_of_a_turned_basis_is_dropped() -> None:
    residual = {name: np.ones_like(table) for name, table in LAYOUT.empty_rows().items()}
    kept = factors.only_head(LAYOUT, residual)
    assert kept[HEAD].all()
    assert not any(kept[module.name].any() for module in LAYOUT.modules)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_pack_reads_as_sent_within_half_a_step(scheme: Scheme) -> None:
    values = np.random.default_rng(0).uniform(-1, 1, (4, 9)).astype(np.float32)
    body, received = factors.pack({"one": Coarse(values, (5, 4)), "two": Coarse(values[:2], (9,))}, scheme)
    step = 1 / scheme.levels if scheme.levels else 2.0**-10
    np.testing.assert_allclose(received["one"], values, atol=step / 2)
    assert received["two"].shape == (2, 9)
    assert len(unseal(Kind.DELTA, body, 1000)) >= 54 * np.dtype(scheme.dtype).itemsize


def test_pack_refuses_what_diverged() -> None:
    with pytest.raises(PayloadError, match="did training diverge"):
        factors.pack({"one": Coarse(np.full((1, 4), np.inf, np.float32), (4,))}, SCHEMES["fp32"])
