from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import memory
from edge_agent.memory import PeakSampler, Sample
from edge_agent.watch import HEADROOM, Footing, Watch, lower
from edge_agent.wire.errors import BudgetError

BLOCKS = 4
PLENTY = 2**62
BUDGET_BYTES = 1000
OTHER_BYTES = 100
FILE_BYTES = 200


class Memory:
    """A process whose anonymous memory is set by the test."""

    def __init__(self, anonymous_bytes: int) -> None:
        self.anonymous_bytes = anonymous_bytes
        self.available_bytes = PLENTY

    def sample(self) -> Sample:
        return Sample(2 * self.anonymous_bytes, self.anonymous_bytes)


def watch_of(process: Memory) -> Watch:
    return Watch(
        PeakSampler(process.sample),
        budget_bytes=BUDGET_BYTES,
        other_bytes=OTHER_BYTES,
        file_bytes=FILE_BYTES,
        blocks=BLOCKS,
        available_bytes=lambda: process.available_bytes,
    )


def stairs(footing: Footing) -> list[Footing]:
    found = [footing]
    while (smaller := lower(found[-1], BLOCKS)) is not None:
        found.append(smaller)
    return found


def size_of(footing: Footing) -> tuple[int, int, int]:
    return footing.kept_blocks, footing.micro_batch, -footing.lowest_block


def test_what_is_kept_goes_first_then_the_micro_batch_then_the_depth() -> None:
    rest = [Footing(4, 1), Footing(2, 1), Footing(1, 1), Footing(1, 2), Footing(1, 3)]
    assert stairs(Footing(4, 1, 3)) == [Footing(4, 1, 3), *rest]


@given(micro_batch=st.integers(1, 64), lowest_block=st.integers(0, BLOCKS), kept_blocks=st.integers(0, BLOCKS))
def test_every_stair_is_smaller_and_the_last_trains_a_block_or_the_head_alone(
    micro_batch: int, lowest_block: int, kept_blocks: int
) -> None:
    steps = stairs(Footing(micro_batch, lowest_block, kept_blocks))
    for step, smaller in itertools.pairwise(steps):
        assert size_of(smaller) < size_of(step)
    assert steps[-1] == Footing(1, max(lowest_block, BLOCKS - 1))


def test_within_the_budget_nothing_changes() -> None:
    watch = watch_of(Memory(int(HEADROOM * BUDGET_BYTES) - OTHER_BYTES))
    assert watch.after_step(Footing(8, 0)) == Footing(8, 0)


def test_close_to_the_budget_it_steps_down_until_it_fits() -> None:
    process = Memory(BUDGET_BYTES - OTHER_BYTES)
    watch, footing = watch_of(process), Footing(2, 2)
    seen = []
    for _ in range(3):
        footing = watch.after_step(footing)
        seen.append(footing)
    assert seen == [Footing(1, 2), Footing(1, 3), Footing(1, 3)], "at the bottom, but within the budget, it goes on"


def test_a_peak_that_was_answered_is_answered_once() -> None:
    process = Memory(BUDGET_BYTES)
    watch = watch_of(process)
    process.anonymous_bytes = BUDGET_BYTES // 2
    footing = watch.after_step(Footing(8, 0))
    assert footing == Footing(4, 0)
    watch.restart()
    assert watch.after_step(footing) == footing
    assert watch.step_downs == 1


def test_beyond_the_budget_at_the_bottom_it_names_the_smallest_that_would_do() -> None:
    watch = watch_of(Memory(BUDGET_BYTES))
    with pytest.raises(BudgetError) as raised:
        watch.after_step(Footing(1, BLOCKS - 1))
    assert raised.value.smallest_budget_bytes >= BUDGET_BYTES + OTHER_BYTES


def test_the_highest_budgeted_memory_is_remembered() -> None:
    process = Memory(700)
    watch = watch_of(process)
    watch.after_step(Footing(1, 0))
    process.anonymous_bytes = 10
    watch.after_step(Footing(1, 0))
    assert watch.peak_bytes == 700 + OTHER_BYTES


def test_a_greedy_neighbour_makes_it_step_down_but_never_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program took the memory that the next step would need again."""
    process = Memory(500)
    monkeypatch.setattr(memory, "own", lambda: Sample(100, 100))
    watch, footing = watch_of(process), Footing(2, BLOCKS - 2)
    process.available_bytes = 500
    assert watch.after_step(footing) == footing
    process.available_bytes = 100
    seen = []
    for _ in range(4):
        footing = watch.after_step(footing)
        seen.append(footing)
    assert seen[:2] == [Footing(1, BLOCKS - 2), Footing(1, BLOCKS - 1)]
    assert seen[-1] == Footing(1, BLOCKS - 1)


def test_blocks_are_kept_only_while_file_pages_have_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Memory(500)
    monkeypatch.setattr(memory, "own", lambda: Sample(500, 500))
    watch = watch_of(process)
    process.available_bytes = FILE_BYTES + 15
    assert watch.after_step(Footing(2, 0, 3)) == Footing(2, 0, 3)
    process.available_bytes = FILE_BYTES - 1
    assert watch.after_step(Footing(2, 0, 3)) == Footing(2, 0, 0)
    assert watch.after_step(Footing(2, 0, 0)) == Footing(2, 0, 0), "what is left is enough for what it needs"
