from __future__ import annotations

import pytest

from edge_agent.wire.pace import AHEAD_S, CAUTION, FIRST_CHUNK_BYTES, LEAST_CHUNK_BYTES, WINDOW, Pace

LIMIT_BYTES = 2**17
KBIT_64 = 8_000
"""Bytes a second."""


def feed(pace: Pace, chunks: int, rate_bytes_per_s: float, now_s: float = 0.0) -> float:
    """Chunks of the size asked for, one after the other; when the last one came."""
    for _ in range(chunks):
        size_bytes = pace.chunk_bytes(LIMIT_BYTES)
        now_s += size_bytes / rate_bytes_per_s
        pace.came(size_bytes, now_s)
    return now_s


def test_the_first_chunk_goes_alone() -> None:
    pace = Pace()
    assert (pace.chunk_bytes(LIMIT_BYTES), pace.window) == (FIRST_CHUNK_BYTES, 1)
    feed(pace, 1, 10**6)
    assert (pace.chunk_bytes(LIMIT_BYTES), pace.window) == (FIRST_CHUNK_BYTES, 4)


def test_a_fast_link_comes_to_the_largest_chunks_in_a_full_window() -> None:
    pace = Pace()
    feed(pace, 4 * (WINDOW + 1), 10**7)
    assert (pace.chunk_bytes(LIMIT_BYTES), pace.window) == (LIMIT_BYTES, WINDOW)


def test_no_chunk_is_larger_than_the_link_takes() -> None:
    pace = Pace()
    assert pace.chunk_bytes(4096) == 4096
    feed(pace, 4 * (WINDOW + 1), 10**7)
    assert pace.chunk_bytes(4096) == 4096


def test_a_slow_link_gets_small_chunks_and_few() -> None:
    pace = Pace()
    feed(pace, 100, KBIT_64 * 0.9)
    size_bytes = pace.chunk_bytes(LIMIT_BYTES)
    assert size_bytes == FIRST_CHUNK_BYTES // 2
    assert pace.window * size_bytes <= AHEAD_S * KBIT_64


def test_a_link_that_becomes_fast_gets_larger_chunks_again() -> None:
    pace = Pace()
    now_s = feed(pace, 100, KBIT_64 / 2)
    small_bytes = pace.chunk_bytes(LIMIT_BYTES)
    feed(pace, 200, 10**7, now_s)
    assert small_bytes < FIRST_CHUNK_BYTES < pace.chunk_bytes(LIMIT_BYTES) == LIMIT_BYTES


def test_silence_halves_down_to_the_least() -> None:
    pace = Pace()
    sizes = []
    for _ in range(6):
        sizes.append(pace.chunk_bytes(LIMIT_BYTES))
        pace.silent()
    assert sizes == [16384, 8192, 4096, 2048, 1024, 1024]
    assert sizes[-1] == LEAST_CHUNK_BYTES


def test_silence_halves_what_is_on_its_way() -> None:
    pace = Pace()
    feed(pace, 10, KBIT_64 * 4)
    before = pace.window
    pace.silent()
    assert (pace.chunk_bytes(LIMIT_BYTES), pace.window) == (FIRST_CHUNK_BYTES // 2, before)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_a_size_that_never_came_is_tried_ever_more_rarely(tries: int) -> None:
    pace = Pace()
    patience = WINDOW
    for _ in range(tries):
        feed(pace, patience, 10**7)
        assert pace.chunk_bytes(LIMIT_BYTES) == FIRST_CHUNK_BYTES
        feed(pace, 1, 10**7)
        assert (pace.chunk_bytes(LIMIT_BYTES), pace.window) == (2 * FIRST_CHUNK_BYTES, 1)
        pace.silent()
        assert pace.chunk_bytes(LIMIT_BYTES) == FIRST_CHUNK_BYTES
        patience *= CAUTION
    feed(pace, patience, 10**7)
    assert pace.chunk_bytes(LIMIT_BYTES) == FIRST_CHUNK_BYTES


def test_after_an_outage_sizes_that_came_before_are_soon_back() -> None:
    pace = Pace()
    now_s = feed(pace, 4 * (WINDOW + 1), 10**7)
    assert pace.chunk_bytes(LIMIT_BYTES) == LIMIT_BYTES
    for _ in range(20):
        pace.silent()
    assert pace.chunk_bytes(LIMIT_BYTES) == LEAST_CHUNK_BYTES
    feed(pace, 7 * (WINDOW + 1), 10**7, now_s + 100.0)
    assert pace.chunk_bytes(LIMIT_BYTES) == LIMIT_BYTES


def test_time_in_which_nothing_was_asked_for_is_not_the_links() -> None:
    pace = Pace()
    now_s = feed(pace, 3, 10**6)
    pace.paused()
    feed(pace, 2, 10**6, now_s + 1000.0)
    assert pace.chunk_bytes(LIMIT_BYTES) == FIRST_CHUNK_BYTES


def test_what_does_not_get_through_is_said(caplog: pytest.LogCaptureFixture) -> None:
    pace = Pace()
    pace.silent()
    assert not caplog.messages, "nothing came at all: nobody knows why"
    feed(pace, WINDOW + 1, 10**7)
    pace.silent()
    assert "chunks of 16384 bytes do not arrive, of 8192 they did" in caplog.text
    assert "broker.max_packet_bytes" in caplog.text
