"""A real worker process."""

from __future__ import annotations

from contextlib import closing

import pytest

from edge_agent.wire.errors import RankfleetError
from edge_agent.wire.pack import load_manifest
from profiling.bench.live import LiveWorker
from profiling.bench.spec import OnnxSpec, Work
from tests.models import tiny_pack

WORK = Work(batch=4, tokens=8, rank=2, threads=1, seed=0)


def make_spec(pack_dir: str) -> OnnxSpec:
    return OnnxSpec("int8-mb2-kept1", WORK, pack_dir, "float32", 2, 1, (2,) * len(load_manifest(tiny_pack()).modules))


def test_steps_train_and_the_process_is_fresh() -> None:
    with closing(LiveWorker(make_spec(str(tiny_pack())))) as worker:
        done = [worker.first, *(worker.step() for _ in range(3))]
    losses = [one.loss for one in done]
    assert losses == sorted(losses, reverse=True)
    assert worker.start_s > worker.first.step_s > 0
    assert done[-1].peak_rss_bytes < 300 * 2**20, "this test's process, with torch, is larger"


def test_a_worker_that_ends_is_named(tmp_path: object) -> None:
    with pytest.raises(RankfleetError, match=r"the worker of 'int8-mb2-kept1' was ended with status 1"):
        LiveWorker(make_spec(f"{tmp_path}/no pack"))


def test_a_killed_worker_is_named() -> None:
    with pytest.raises(RankfleetError, match=r"killed by signal 9 \(9: out of memory\)"):
        LiveWorker(make_spec(str(tiny_pack())), lambda command: ["/bin/sh", "-c", "kill -9 $$", *command])
