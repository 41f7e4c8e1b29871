from __future__ import annotations

import mmap
import time
from pathlib import Path

from edge_agent import memory
from edge_agent.meter import PhaseMeter
from edge_agent.spans import JobPhases, Span, SpanMeter

TAKEN_BYTES = 2**25


def take(size_bytes: int) -> None:
    """Fills memory and gives it back."""
    with mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as taken:
        taken.write(b"\1" * size_bytes)
        time.sleep(5 * memory.SAMPLE_EVERY_S)


def compute(cpu_s: float) -> None:
    end_s = time.process_time() + cpu_s
    while time.process_time() < end_s:
        sum(range(1000))


def test_spans_add_up_to_all_that_the_process_did() -> None:
    meter = SpanMeter()
    first = meter.lap("first")
    compute(0.05)
    second = meter.lap("second")
    total_s = time.process_time()
    assert first.cpu_s + second.cpu_s <= total_s
    assert first.cpu_s + second.cpu_s > total_s - 0.05
    assert 0.05 <= second.cpu_s < 0.5 and first.end_s < second.end_s <= time.monotonic()


def test_a_peak_that_is_over_is_seen_where_a_sampler_is_followed() -> None:
    meter = SpanMeter()
    with memory.PeakSampler() as sampler:
        meter.follow(sampler)
        meter.lap("before")
        take(TAKEN_BYTES)
        taken = meter.lap("taken")
        quiet = meter.lap("quiet")
    assert taken.peak_anonymous_bytes is not None and quiet.peak_anonymous_bytes is not None
    assert taken.peak_rss_bytes is not None and quiet.peak_rss_bytes is not None
    assert taken.peak_anonymous_bytes > quiet.peak_anonymous_bytes + TAKEN_BYTES * 9 // 10
    assert taken.peak_rss_bytes > quiet.peak_rss_bytes + TAKEN_BYTES * 9 // 10
    assert taken.minor_faults is not None and quiet.minor_faults is not None
    assert taken.minor_faults > quiet.minor_faults


def test_a_system_that_tells_nothing_gives_none_and_no_zeros(tmp_path: Path) -> None:
    span = SpanMeter(tmp_path).lap("dark")
    measured = {"name", "end_s", "cpu_s", "stalls", "measuring_cpu_s"}
    told = {field: getattr(span, field) for field in span.__struct_fields__ if field not in measured}
    assert set(told.values()) == {None}
    assert (span.stalls.cpu_s, span.stalls.memory_s, span.stalls.io_s) == (None, None, None)


def test_a_job_tells_each_phase_when_it_is_over() -> None:
    told = list[Span]()
    phases = JobPhases(PhaseMeter(), told.append)
    phases.enter("load")
    assert told == []
    phases.enter("train")
    assert [span.name for span in told] == ["load"]
    phases.enter("")
    phases.enter("")
    assert [span.name for span in told] == ["load", "train"]
    ended = phases.drain()
    assert [phase.name for phase in ended] == ["load", "train"]
    assert [(span.pss_bytes, span.uss_bytes) for span in told] == [(one.pss_bytes, one.uss_bytes) for one in ended]


def test_a_job_that_nobody_records_still_measures_for_its_report() -> None:
    phases = JobPhases(PhaseMeter(), None)
    with memory.PeakSampler() as sampler:
        phases.enter("load")
        phases.follow(sampler)
        phases.enter("")
    assert [phase.name for phase in phases.drain()] == ["load"]
