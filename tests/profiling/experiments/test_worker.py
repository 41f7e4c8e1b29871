"""The worker process's own side, spoken to by pipes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from profiling.experiments.jobs import AnyLine, Done, Failure, Step
from tests.experiments import COMMAND, DIVERGES, HANGS, make_job

PATIENCE_S = 60.0
DECODER = msgspec.json.Decoder(AnyLine)


def start(folder: Path, seed: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(make_job(folder, seed=seed)) + b"\n")
    process.stdin.flush()
    return process


def said(process: subprocess.Popen[bytes]) -> list[AnyLine]:
    assert process.stdout is not None
    with process.stdout:
        return [DECODER.decode(line) for line in process.stdout]


def test_a_job_ends_with_its_result_while_the_input_stays_open(tmp_path: Path) -> None:
    process = start(tmp_path, 0)
    assert [type(line) for line in said(process)] == [Step, Done]
    assert process.wait(PATIENCE_S) == 0


def test_a_loss_that_is_not_finite_is_a_failure(tmp_path: Path) -> None:
    last = said(start(tmp_path, DIVERGES))[-1]
    assert isinstance(last, Failure) and "round 1 is not finite" in last.reason


def test_an_orphan_ends(tmp_path: Path) -> None:
    process = start(tmp_path, HANGS)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline()
    process.stdin.close()
    assert process.wait(PATIENCE_S) == 1
