from __future__ import annotations

from typing import cast

import pytest

from profiling.bench import measure as module
from profiling.bench.live import LiveWorker
from profiling.bench.measure import measure
from profiling.bench.spec import AnySpec, Done, ProductsSpec, Work

WORK = Work(batch=2, tokens=4, rank=2, threads=1, seed=0)
LOG: list[str] = []


class FakeWorker:
    """A worker whose steps take 1 s, 2 s and so on, and which notes when it is asked for one."""

    start_s = 5.0

    def __init__(self, spec: AnySpec) -> None:
        self.spec, self._steps = spec, 0
        self.first = self.step()

    def step(self) -> Done:
        self._steps += 1
        LOG.append(self.spec.mode)
        return Done(float(self._steps), 0.0, 100 * self._steps, 10 * self._steps)

    def close(self) -> None:
        LOG.append(f"close {self.spec.mode}")


def test_workers_step_in_turn_and_their_first_step_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LiveWorker", cast(type[LiveWorker], FakeWorker))
    monkeypatch.setattr(module, "SETTLE_S", 0)
    LOG.clear()
    a, b = measure([ProductsSpec(name, WORK, "numpy", ((1, 1),)) for name in "ab"], 2, lambda line: None)
    assert LOG == ["a", "b", "a", "b", "a", "b", "close b", "close a"]
    assert (a.spec.mode, a.start_s, a.steps_s) == ("a", 5.0, (2.0, 3.0))
    assert (b.peak_rss_bytes, b.peak_anonymous_bytes, b.usage) == (300, 30, None)
