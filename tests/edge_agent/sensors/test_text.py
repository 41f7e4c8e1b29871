from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sensors import text


@given(st.integers(-(10**19), 10**19))
def test_whole_numbers_are_read_back(value: int) -> None:
    assert text.whole(f" {value}\n") == value


@pytest.mark.parametrize("words", ["", "1_000", "0x10", "1.5", "\u0663", "9" * 5000, "+1", "nan"])
def test_what_is_no_whole_number_is_none(words: str) -> None:
    assert text.whole(words) is None


@pytest.mark.parametrize("words", ["", ".", "1.", "1e5", "nan", "inf", "--1", "9" * 400])
def test_what_is_no_decimal_is_none(words: str) -> None:
    assert text.decimal(words) is None


@given(st.text())
def test_garbage_raises_nothing(words: str) -> None:
    text.whole(words)
    text.decimal(words)
    text.kilobytes(words)
    text.table(words)


def test_a_sum_of_which_a_part_is_unknown_is_unknown() -> None:
    assert text.total([1, 2]) == 3
    assert text.total([1, None]) is None
    assert text.total([]) is None


def test_a_command_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "COMMAND_S", 0.2)
    start_s = time.monotonic()
    assert text.run_command(["sleep", "30"]) == ""
    assert time.monotonic() - start_s < 10
