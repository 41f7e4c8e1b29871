"""The worker process: one run from standard input, its progress and result on standard output (see `jobs`)."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.wire.errors import RankfleetError

from .jobs import AnyLine, Done, Failure, Job, Step
from .record import Result
from .settings import Run

Say = Callable[[int, int, float | None], None]
Execute = Callable[[Run, Path, str, Path, Say], Result]
"""As `loop.execute`."""


def main(execute: Execute) -> int:
    """Does the job on standard input by `execute`; exit status 0 if its result or failure was told."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_the_runner, daemon=True).start()
    try:
        result = execute(job.run, Path(job.pack), job.dataset, Path(job.cache), lambda *step: _say(Step(*step)))
        _say(_outcome(result))
    except RankfleetError as error:
        _say(Failure(str(error)))
    except MemoryError:
        _say(Failure("the system refused memory to the worker: run fewer at once (--jobs)"))
    return 0


def _outcome(result: Result) -> AnyLine:
    lost = [one.round for one in result.rounds if one.loss is not None and not math.isfinite(one.loss)]
    if lost:
        return Failure(f"training diverged: the loss of round {lost[0]} is not finite; lower the learning rate")
    return Done(result)


def _end_with_the_runner() -> None:
    """An orphan must not use up a processor beside its successor."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _say(line: AnyLine) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    from .loop import execute

    sys.exit(main(execute))
