from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.wire.errors import PayloadError
from edge_agent.wire.ranks import HEAD, Layout, Module, compact, keep_top, pack_mask, top_share, unpack_mask

LAYOUT = Layout(
    (Module("low", 0, 6, 4), Module("middle", 1, 4, 8), Module("high", 1, 4, 4)), slots=3, classes=2, d_model=4
)
MASKS = hnp.arrays(np.bool_, (3, 3))
SCORES = hnp.arrays(np.float64, (3, 3), elements=st.floats(-10, 10) | st.sampled_from([0.0, 1.0]))


def test_tables_have_the_widths_of_their_factors_and_the_head_comes_last() -> None:
    assert list(LAYOUT.tables) == ["low", "middle", "high", HEAD]
    assert [table.width for table in LAYOUT.tables.values()] == [11, 13, 9, 5]
    assert LAYOUT.tables["middle"].groups == (4, 1, 8)
    assert (LAYOUT.tables["low"].rows, LAYOUT.tables[HEAD].rows) == (3, 2)
    assert (LAYOUT.blocks, LAYOUT.ranks) == (2, 9)
    assert {name: rows.shape for name, rows in LAYOUT.empty_rows().items()}[HEAD] == (2, 5)


@given(MASKS)
def test_parameters_are_those_of_the_living_ranks(mask: np.ndarray) -> None:
    widths = np.array([11, 13, 9])[:, None]
    assert LAYOUT.parameters(mask) == (mask * widths).sum()


@given(MASKS)
def test_compacting_keeps_living_rows_in_slot_order_and_the_head(mask: np.ndarray) -> None:
    rows = {name: np.arange(table.size, dtype=np.float32).reshape(table.shape) for name, table in _empty().items()}
    kept = compact(LAYOUT, rows, mask)
    for index, module in enumerate(LAYOUT.modules):
        assert np.array_equal(kept[module.name], rows[module.name][mask[index]])
    assert np.array_equal(kept[HEAD], rows[HEAD])
    kept[HEAD][:] = -1
    assert (rows[HEAD] >= 0).all()


@given(MASKS)
def test_masks_survive_the_wire(mask: np.ndarray) -> None:
    packed = pack_mask(mask)
    assert len(packed) == 2
    assert np.array_equal(unpack_mask(packed, LAYOUT), mask)


def test_packed_masks_are_big_endian_within_a_byte() -> None:
    mask = np.zeros((3, 3), dtype=np.bool_)
    mask[0, 0] = mask[2, 2] = True
    assert pack_mask(mask) == b"\x80\x80"


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x00", b"\x00\x01", b"\xff\xff"])
def test_masks_of_another_length_or_with_stray_bits_are_refused(data: bytes) -> None:
    with pytest.raises(PayloadError):
        unpack_mask(data, LAYOUT)


@given(SCORES, MASKS, st.integers(0, 12))
def test_keep_top_meets_its_count_exactly_and_only_shrinks(scores: np.ndarray, mask: np.ndarray, keep: int) -> None:
    kept = keep_top(scores, mask, keep)
    assert kept.sum() == min(keep, mask.sum())
    assert not (kept & ~mask).any()
    if kept.any() and (mask & ~kept).any():
        assert scores[kept].min() >= scores[mask & ~kept].max()


@given(SCORES, MASKS, st.integers(0, 9))
def test_keeping_fewer_keeps_a_subset(scores: np.ndarray, mask: np.ndarray, keep: int) -> None:
    assert not (keep_top(scores, mask, keep) & ~keep_top(scores, mask, keep + 1)).any()


def test_ties_go_to_the_lower_index() -> None:
    kept = keep_top(np.zeros((3, 3)), LAYOUT.full_mask(), 4)
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3]


@given(st.integers(0, 100), st.integers(1, 100), st.integers(1, 100))
def test_a_device_votes_for_its_share_of_the_budget(count: int, budget: int, living: int) -> None:
    votes = top_share(count, min(budget, living), living)
    assert min(count, 1) <= votes <= count
    assert votes == count or abs(votes - count * min(budget, living) / living) <= 1


def _empty() -> dict[str, np.ndarray]:
    return dict(LAYOUT.empty_rows())
