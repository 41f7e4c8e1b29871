"""What a result says of its run."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from profiling.experiments.record import Result
from tests.experiments import make_result, make_run


def test_the_accuracy_is_that_after_the_last_round() -> None:
    assert make_result(make_run(), accuracy=0.7).accuracy == 0.7


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=6, max_size=6))
def test_the_bytes_are_those_up_and_down_in_all_rounds(traffic: list[tuple[int, int]]) -> None:
    result = make_result(make_run())
    rounds = tuple(
        msgspec.structs.replace(one, bytes_up=up, bytes_down=down)
        for one, (up, down) in zip(result.rounds, traffic, strict=True)
    )
    assert msgspec.structs.replace(result, rounds=rounds).bytes_total == sum(up + down for up, down in traffic)


def test_a_result_comes_back_from_its_file() -> None:
    result = make_result(make_run())
    assert msgspec.json.decode(msgspec.json.encode(result), type=Result) == result
