from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire import rowset
from edge_agent.wire.container import Reader
from edge_agent.wire.errors import PayloadError, WireError
from edge_agent.wire.quantise import SCHEMES
from edge_agent.wire.ranks import HEAD, Layout, Module, Rows
from edge_agent.wire.rng import generator
from edge_agent.wire.rowset import VALUE_LIMIT, RowSet, chosen, quantise_rows

LAYOUT = Layout((Module("block.0.query", 0, 6, 4), Module("block.1.ffn", 1, 4, 8)), slots=3, classes=2, d_model=4)
NAMES = st.sampled_from(sorted(SCHEMES))


def _change(ranks: np.ndarray, seed: int) -> Rows:
    draws = generator(seed, "change")
    change = {m.name: draws.gaussian((len(slots), m.width), 0.01) for m, slots in LAYOUT.living(ranks)}
    change[HEAD] = draws.gaussian((2, 5), 0.01)
    return change


def _row_set(name: str = "int8", bits: int = 0b101_011, seed: int = 1) -> RowSet:
    ranks = np.array([bits >> i & 1 for i in range(6)], dtype=np.bool_).reshape(2, 3)
    return quantise_rows(LAYOUT, _change(ranks, seed), LAYOUT.empty_rows(), ranks, SCHEMES[name])[0]


@given(NAMES, st.integers(0, 63), st.integers(0, 99))
def test_read_undoes_write(name: str, bits: int, seed: int) -> None:
    row_set = _row_set(name, bits, seed)
    body = rowset.write(row_set)
    assert len(body) <= rowset.limit_bytes(LAYOUT)
    reader = Reader(body)
    back = rowset.read(reader, LAYOUT)
    reader.finish()
    assert rowset.write(back) == body
    for key, values in row_set.rows().items():
        assert np.array_equal(back.rows()[key], values)


@given(st.binary(max_size=200))
def test_random_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        rowset.read(Reader(body), LAYOUT)
    except WireError:
        return


@given(NAMES, st.data())
def test_mutated_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    body = bytearray(rowset.write(_row_set(name)))
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        row_set = rowset.read(Reader(bytes(body)), LAYOUT)
    except WireError:
        return
    assert all((np.abs(values) <= VALUE_LIMIT).all() for values in row_set.rows().values())


@pytest.mark.parametrize("name", sorted(SCHEMES))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 65.0, 1e30])
@pytest.mark.parametrize("column", [0, 6, 7])
def test_values_that_a_sum_cannot_take_are_refused(name: str, value: float, column: int) -> None:
    ranks = LAYOUT.full_mask()
    change = _change(ranks, 1)
    change["block.0.query"][1, column] = value
    with np.errstate(invalid="ignore"):
        row_set, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEMES[name])
    with pytest.raises(PayloadError, match=r"block\.0\.query"):
        rowset.write(row_set)


def test_a_code_outside_of_its_levels_is_refused() -> None:
    for name, code in (("int4", 8), ("int8", -128)):
        row_set = _row_set(name)
        row_set.tables["block.1.ffn"].codes[0, 0] = code
        with pytest.raises(PayloadError, match="code outside"):
            rowset.write(row_set)


def test_only_head_rows_that_changed_are_chosen() -> None:
    ranks = LAYOUT.full_mask()
    change = _change(ranks, 1)
    change[HEAD][0] = 0
    row_set, _ = quantise_rows(LAYOUT, change, LAYOUT.empty_rows(), ranks, SCHEMES["int8"])
    assert row_set.classes.tolist() == [False, True]
    assert row_set.rows()[HEAD].shape == (1, 5)
    assert chosen(LAYOUT, ranks, row_set.classes)[HEAD].tolist() == [1]


def test_residuals_of_rows_not_chosen_stay() -> None:
    residual = LAYOUT.empty_rows()
    residual["block.0.query"][:] = 0.5
    ranks = np.array([[True, False, True], [False, False, False]])
    _, left = quantise_rows(LAYOUT, _change(ranks, 1), residual, ranks, SCHEMES["int4"])
    assert (left["block.0.query"][1] == 0.5).all()
    assert (np.abs(left["block.0.query"][[0, 2]]) < 0.1).all()
    assert (residual["block.0.query"] == 0.5).all()


def test_stray_class_bits_are_refused() -> None:
    body = bytearray(rowset.write(_row_set()))
    body[2] |= 0b0000_0001
    with pytest.raises(PayloadError, match="classes has bits"):
        rowset.read(Reader(bytes(body)), LAYOUT)
