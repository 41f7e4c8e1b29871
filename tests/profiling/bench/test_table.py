from __future__ import annotations

from profiling.bench.engine import Result, Row
from profiling.bench.table import lines
from profiling.cgroup import Usage


def make_row(mode: str, rss_mb: int, step_s: float, engine: str = "onnx") -> Row:
    return Row("m", engine, mode, rss_mb * 10**6, rss_mb * 10**6 // 2, step_s, 0.01, 2.0, 0.5, 10**8)


SMALL, FINAL = make_row("int8-mb1-kept0", 100, 0.5), make_row("int8-mb1-kept0-final", 90, 0.25)
EAGER = make_row("eager", 800, 0.4, "torch")


def test_ratios_are_to_torch_eager() -> None:
    heading, small, _, best = lines(Result([SMALL, EAGER], {}, 1.5e11))
    assert heading.startswith("engine  mode")
    assert all(part in small for part in ("100.0 = 1/8.00", "500 (10) = 1.25 x", "2.00 = 1/1.0", "0.50", "100"))
    assert best == "matrix products: 150.0 Gflop/s at best"


def test_without_torch_eager_there_are_no_ratios() -> None:
    assert "=" not in lines(Result([SMALL], {}, 1e11))[1]


def test_final_ranks_are_compared_with_all_ranks_of_the_same_mode() -> None:
    *_, saving = lines(Result([SMALL, FINAL, EAGER], {}, 1e11))
    assert saving == (
        "int8-mb1-kept0 at the final ranks: step time -50.0 %, peak RSS -10.0 %, peak anonymous memory -10.0 %"
    )


def test_what_a_cgroup_tells_is_said() -> None:
    *_, told = lines(Result([SMALL], {"int8-mb1-kept0": Usage(2 * 10**8, 10**8, 3, 4, 0)}, 1e11))
    assert told == (
        "int8-mb1-kept0 in a memory cgroup of 200.0 MB: peak 100.0 MB, limit met 3 times, 4 pages read again, "
        "0 processes killed"
    )
