from __future__ import annotations

import io

import msgspec
import pytest

from edge_agent.wire.errors import RankfleetError
from profiling.bench.spec import Done, ProductsSpec, Work
from profiling.bench.worker import Stepper, serve

WORK = Work(batch=2, tokens=4, rank=2, threads=1, seed=0)
SPEC = ProductsSpec("products by numpy", WORK, "numpy", ((8, 4),))


def _serve(commands: str) -> list[Done]:
    answers = io.StringIO()
    serve(Stepper(SPEC), io.StringIO(commands), answers)
    return [msgspec.json.decode(line, type=Done) for line in answers.getvalue().splitlines()]


def test_it_steps_at_once_and_then_when_told() -> None:
    assert len(_serve("")) == 1
    assert len(_serve("step\nstep\nquit\nstep\n")) == 3


def test_peaks_never_fall() -> None:
    done = _serve("step\nstep\n")
    assert [d.peak_rss_bytes for d in done] == sorted(d.peak_rss_bytes for d in done)
    assert all(0 < d.peak_anonymous_bytes <= d.peak_rss_bytes for d in done)


def test_an_unknown_command_is_refused() -> None:
    with pytest.raises(RankfleetError, match="expected the command 'step' or 'quit', got 'stop'"):
        _serve("stop\n")
