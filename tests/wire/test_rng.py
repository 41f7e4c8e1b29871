from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.wire.rng import generator


def test_words_are_the_golden_ones() -> None:
    expected = [0x22E178A7631A506C, 0x0FECA2D81C2651C7, 0x7A6F4ADFCD1BD2C2, 0x5A22B40F532407E5]
    assert generator(7, "device-1", 3).words(4).tolist() == expected


def test_gaussian_bytes_are_the_golden_ones() -> None:
    values = generator(7, "device-1", 3).gaussian((3, 4), 0.05)
    golden = "00406fbd9a9785bd678ed53c67364f3c674677bc9aa50bbd6766343d00045ebd676e73bd679e15bd331341bc337f8d3d"
    assert values.astype("<f4").tobytes().hex() == golden


def test_a_whole_matrix_has_the_golden_hash() -> None:
    values = generator(7).gaussian((1000, 384), 1 / math.sqrt(384))
    golden = "d41b920222dec92fc0d5d6d00f9c0ebdfacc43edfe9f48e6bd9bbaab41d8cfe1"
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest() == golden


def test_uniform_permutation_and_integers_are_the_golden_ones() -> None:
    uniform = [u.hex() for u in generator(7).uniform(3).tolist()]
    assert uniform == ["0x1.c0b1451a17d64p-2", "0x1.af9b737847324p-1", "0x1.fa13ec1dd83ecp-2"]
    assert generator(7).permutation(10).tolist() == [6, 0, 2, 5, 4, 3, 1, 7, 9, 8]
    assert generator(7).integers(10, 100).tolist() == [59, 0, 47, 70, 60, 47, 43, 82, 46, 17]


@pytest.mark.parametrize(
    ("one", "other"),
    [((1, 2), (12,)), ((1, "2"), (1, 2)), ((1, "a", "b"), (1, "ab")), ((1,), (1, "")), ((1, 2), (2, 1))],
)
def test_different_paths_give_different_streams(one: tuple[int, int | str], other: tuple[int, int | str]) -> None:
    assert generator(*one).words(2).tolist() != generator(*other).words(2).tolist()


def test_a_stream_goes_on_where_it_stopped() -> None:
    parts = generator(1, "x")
    split = [*parts.words(3).tolist(), *parts.words(5).tolist()]
    assert split == generator(1, "x").words(8).tolist()


def test_gaussian_has_the_moments_of_a_normal() -> None:
    values = generator(3, "moments").gaussian((200_000,), 2.0).astype(np.float64)
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 2) < 0.02
    assert abs((values**4).mean() / 16 - 2.9) < 0.06  # Irwin-Hall of 12 has kurtosis 2.9
    assert np.abs(values).max() <= 12


@given(st.integers(0, 2**64), st.integers(0, 300))
def test_permutation_is_a_permutation(seed: int, n: int) -> None:
    assert sorted(generator(seed).permutation(n).tolist()) == list(range(n))


@given(st.integers(0, 2**32), st.integers(1, 2**40))
def test_integers_and_uniform_stay_in_their_range(seed: int, high: int) -> None:
    drawn = generator(seed, "range").integers(50, high)
    assert drawn.min() >= 0 and drawn.max() < high
    uniform = generator(seed).uniform(50)
    assert uniform.min() >= 0 and uniform.max() < 1


def test_a_seed_that_is_no_integer_of_python_is_refused() -> None:
    with pytest.raises(TypeError):
        generator(np.int64(3))  # type: ignore[arg-type]
