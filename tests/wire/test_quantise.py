from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.wire.errors import ConfigError, PayloadError
from edge_agent.wire.quantise import (
    SCHEMES,
    dequantise,
    find_number,
    find_scheme,
    quantise,
    wide,
    with_feedback,
)
from edge_agent.wire.rng import generator

GROUPS = (5, 1, 3)
FINITE = st.floats(-60, 60, width=32)
ROWS = hnp.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(sum(GROUPS))), elements=FINITE)
NAMES = st.sampled_from(sorted(SCHEMES))
GOLDEN = {
    "fp32": "2665b9c76d8644b2da33a5ead262c95a",
    "fp16": "2dac58de40e8e07633791cf4aa1c7da3",
    "int8": "66713b00928f0f3dcb74a7de4c5cbefa",
    "int4": "e54ae470e7e1138f33ae9a80b52510f8",
}


def _step(rows: np.ndarray, name: str) -> np.ndarray:
    """Largest error allowed per number: half a quantisation step of its group, and rounding."""
    scheme = SCHEMES[name]
    if name == "fp32":
        return np.zeros_like(rows)
    if name == "fp16":
        return np.abs(rows) * 2.0**-11 + 2.0**-25
    step = np.zeros_like(rows)
    start = 0
    for width in GROUPS:
        part = rows[:, start : start + width]
        if width > 1:
            step[:, start : start + width] = np.abs(part).max(axis=1, keepdims=True) / scheme.levels / 2
        start += width
    return step * 1.001 + 1e-38


@given(ROWS, NAMES)
def test_the_error_is_at_most_half_a_step(rows: np.ndarray, name: str) -> None:
    back = dequantise(quantise(rows, GROUPS, SCHEMES[name]))
    assert back.dtype == np.float32 and back.shape == rows.shape
    assert (np.abs(back - rows) <= _step(rows, name)).all()


@given(ROWS, NAMES)
def test_groups_of_width_one_are_exact(rows: np.ndarray, name: str) -> None:
    assert np.array_equal(dequantise(quantise(rows, GROUPS, SCHEMES[name]))[:, 5], rows[:, 5])


@given(ROWS, NAMES)
def test_codes_stay_within_their_levels(rows: np.ndarray, name: str) -> None:
    quantised = quantise(rows, GROUPS, SCHEMES[name])
    assert quantised.codes.dtype == np.dtype(SCHEMES[name].dtype)
    assert quantised.codes.shape == (len(rows), sum(wide(GROUPS)))
    if SCHEMES[name].levels:
        assert (np.abs(quantised.codes.astype(int)) <= SCHEMES[name].levels).all()


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, (6, 2, sum(GROUPS)), elements=st.floats(-1, 1, width=32)),
    NAMES,
)
def test_what_was_sent_plus_the_residual_is_what_changed(deltas: np.ndarray, name: str) -> None:
    residual = np.zeros((2, sum(GROUPS)), dtype=np.float32)
    sent = np.zeros((2, sum(GROUPS)), dtype=np.float64)
    for delta in deltas:
        quantised, residual = with_feedback(delta, residual, GROUPS, SCHEMES[name])
        sent += dequantise(quantised)
    assert np.allclose(sent + residual, deltas.sum(axis=0, dtype=np.float64), rtol=0, atol=1e-5)


def test_feedback_delivers_what_is_smaller_than_a_step() -> None:
    delta = np.array([[1.0, 0.05, 0, 0, 0, 0, 1, 0, 0]], dtype=np.float32)
    residual = np.zeros_like(delta)
    sent = np.zeros_like(delta)
    for _ in range(100):
        quantised, residual = with_feedback(delta, residual, GROUPS, SCHEMES["int4"])
        sent += dequantise(quantised)
    assert abs(sent[0, 1] / 100 - 0.05) < 0.002


def test_zero_rows_and_underflowing_scales_give_zeros() -> None:
    rows = np.zeros((2, sum(GROUPS)), dtype=np.float32)
    rows[1, 0] = 1e-45
    for name in ("int8", "int4"):
        assert not dequantise(quantise(rows, GROUPS, SCHEMES[name])).any()


def test_fp16_saturates_instead_of_overflowing() -> None:
    rows = np.full((1, sum(GROUPS)), 1e6, dtype=np.float32)
    quantised, residual = with_feedback(rows, np.zeros_like(rows), GROUPS, SCHEMES["fp16"])
    assert np.isfinite(dequantise(quantised)).all()
    assert residual[0, 0] == np.float32(1e6 - 65504)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_quantised_bytes_are_the_golden_ones(name: str) -> None:
    rows = generator(2, "golden").gaussian((4, sum(GROUPS)), 0.01)
    quantised = quantise(rows, GROUPS, SCHEMES[name])
    parts = (quantised.codes, quantised.scales, quantised.exact, dequantise(quantised))
    canonical = b"".join(part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts)
    assert hashlib.sha256(canonical).hexdigest()[:32] == GOLDEN[name]


def test_unknown_schemes_are_refused() -> None:
    assert find_scheme("int8") is find_number(3)
    with pytest.raises(ConfigError, match="fp32, fp16, int8, int4"):
        find_scheme("int2")
    with pytest.raises(PayloadError, match="number 9"):
        find_number(9)
