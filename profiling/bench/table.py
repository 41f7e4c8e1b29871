"""The table of the benchmark, as text."""

from __future__ import annotations

from collections.abc import Sequence

from profiling.cgroup import Usage

from .engine import Result, Row
from .modes import EAGER, full_of

_HEADINGS = (
    ("engine", 6),
    ("mode", 24),
    ("peak RSS MB", 18),
    ("anonymous MB", 12),
    ("step ms (IQR)", 22),
    ("start s", 14),
    ("SGEMM", 5),
    ("installed MB", 12),
)


def lines(result: Result) -> list[str]:
    """The rows with their ratios to torch eager, where that was measured; then what final ranks save, and cgroups."""
    eager = next((row for row in result.rows if row.mode == EAGER), None)
    return [
        "  ".join(f"{name:<{width}}" for name, width in _HEADINGS).rstrip(),
        *(_line(row, eager) for row in result.rows),
        f"matrix products: {result.best_flops_per_s / 1e9:.1f} Gflop/s at best",
        *_savings(result.rows),
        *(_usage(mode, usage) for mode, usage in result.usages.items()),
    ]


def _line(row: Row, eager: Row | None) -> str:
    rss, anonymous = f"{row.peak_rss_bytes / 1e6:.1f}", f"{row.peak_anonymous_bytes / 1e6:.1f}"
    step, start = f"{row.step_s_median * 1e3:.0f} ({row.step_s_spread * 1e3:.0f})", f"{row.start_s:.2f}"
    if eager is not None:
        rss += f" = 1/{eager.peak_rss_bytes / row.peak_rss_bytes:.2f}"
        step += f" = {row.step_s_median / eager.step_s_median:.2f} x"
        start += f" = 1/{eager.start_s / row.start_s:.1f}"
    share, installed = f"{row.sgemm_share:.2f}", f"{row.installed_bytes / 1e6:.0f}"
    cells = (row.engine, row.mode, rss, anonymous, step, start, share, installed)
    return "  ".join(f"{cell:<{width}}" for cell, (_, width) in zip(cells, _HEADINGS, strict=True)).rstrip()


def _savings(rows: Sequence[Row]) -> list[str]:
    """What the final ranks change, for each mode that was measured with all ranks as well."""
    by_mode = {row.mode: row for row in rows}
    pairs = [(row, by_mode[full_of(row.mode)]) for row in rows if full_of(row.mode) in by_mode.keys() - {row.mode}]
    return [
        f"{full.mode} at the final ranks: step time {_change(final.step_s_median, full.step_s_median)}, "
        f"peak RSS {_change(final.peak_rss_bytes, full.peak_rss_bytes)}, "
        f"peak anonymous memory {_change(final.peak_anonymous_bytes, full.peak_anonymous_bytes)}"
        for final, full in pairs
    ]


def _change(now: float, before: float) -> str:
    return f"{(now / before - 1) * 100:+.1f} %"


def _usage(mode: str, usage: Usage) -> str:
    return (
        f"{mode} in a memory cgroup of {usage.limit_bytes / 1e6:.1f} MB: peak {usage.peak_bytes / 1e6:.1f} MB, "
        f"limit met {usage.limit_hits} times, {usage.refaulted_pages} pages read again, "
        f"{usage.oom_kills} processes killed"
    )
