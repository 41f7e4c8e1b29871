from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from edge_agent.engine.scratch import Scratch


def test_the_same_key_gives_the_same_memory() -> None:
    scratch = Scratch()
    first = scratch.array("x", (4, 6))
    assert np.shares_memory(first, scratch.array("x", (3, 8)))
    assert np.shares_memory(first, scratch.array("x", (2, 2)))
    assert not np.shares_memory(first, scratch.array("y", (4, 6)))


def test_a_larger_array_replaces_the_smaller_one() -> None:
    scratch = Scratch()
    scratch.array("x", (2,))
    large = scratch.array("x", (5, 5))
    assert large.shape == (5, 5)
    assert large.dtype == np.float32
    assert np.shares_memory(large, scratch.array("x", (2,)))


def test_each_thread_has_memory_of_its_own() -> None:
    scratch, together = Scratch(), Barrier(3)

    def ask(_: int) -> np.ndarray:
        together.wait()
        return scratch.own("x", (8,))

    with ThreadPoolExecutor(3) as pool:
        arrays = list(pool.map(ask, range(3)))
    assert not any(np.shares_memory(a, b) for index, a in enumerate(arrays) for b in arrays[:index])


def test_what_is_given_back_is_made_anew() -> None:
    scratch = Scratch()
    before = scratch.array("x", (4,))
    scratch.clear()
    assert not np.shares_memory(before, scratch.array("x", (4,)))
