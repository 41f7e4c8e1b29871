"""The process of one engine: `python -m profiling.bench.worker SPEC`, with the spec as JSON.

It makes its first step at once; then each line `step` on its standard input makes another, and `quit` or the end of the
input ends it. Every step is answered by one line of JSON, a `Done`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TextIO

import msgspec

from edge_agent.memory import PeakSampler, high_water_bytes
from edge_agent.wire.errors import RankfleetError

from .spec import AnySpec, Done, OnnxSpec, PeftSpec, ProductsSpec, TorchSpec

Step = Callable[[], float]
"""Makes one training step, the optimizer's included; returns the loss."""

STEP, QUIT = "step", "quit"


def make_step(spec: AnySpec) -> Step:
    """The step of `spec`. Every engine is imported only where it is used, for its memory is measured."""
    match spec:
        case OnnxSpec():
            from .onnx_step import make_onnx_step as make  # noqa: PLC0415
        case TorchSpec():
            from .torch_step import make_torch_step as make  # type: ignore[assignment] # noqa: PLC0415
        case PeftSpec():
            from .peft_step import make_peft_step as make  # type: ignore[assignment] # noqa: PLC0415
        case ProductsSpec():
            from .products import make_products as make  # type: ignore[assignment] # noqa: PLC0415
    return make(spec)  # type: ignore[arg-type]


class Stepper:
    """Makes steps and follows their peaks. The sampler rests between steps, when others are measured."""

    def __init__(self, spec: AnySpec) -> None:
        self._spec = spec
        self._step: Step | None = None
        self._peak_rss_bytes = 0
        self._peak_anonymous_bytes = 0

    def step(self) -> Done:
        """One step; the first loads the engine and the model before its time starts."""
        with PeakSampler() as sampler:
            step = self._step = self._step or make_step(self._spec)
            start_s = time.perf_counter()
            loss = step()
            step_s = time.perf_counter() - start_s
            peak = sampler.peak()
        self._peak_anonymous_bytes = max(self._peak_anonymous_bytes, peak.anonymous_bytes)
        self._peak_rss_bytes = max(self._peak_rss_bytes, peak.rss_bytes, high_water_bytes() or 0)
        return Done(step_s, loss, self._peak_rss_bytes, self._peak_anonymous_bytes)


def serve(stepper: Stepper, commands: TextIO, answers: TextIO) -> None:
    """The first step, then one for each command `step`.

    Raises:
        RankfleetError: an unknown command.
    """
    _answer(stepper.step(), answers)
    for line in commands:
        command = line.strip()
        if command == QUIT:
            return
        if command != STEP:
            raise RankfleetError(f"expected the command {STEP!r} or {QUIT!r}, got {command!r}")
        _answer(stepper.step(), answers)


def _answer(done: Done, answers: TextIO) -> None:
    answers.write(msgspec.json.encode(done).decode() + "\n")
    answers.flush()


def main() -> int:
    """Serves on standard input and output. What libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec: AnySpec = msgspec.json.decode(sys.argv[1], type=AnySpec)
    try:
        serve(Stepper(spec), sys.stdin, answers)
    except ModuleNotFoundError as error:
        print(f"{spec.mode} needs {error.name}, which is not installed: pip install it", file=sys.stderr)
        return 1
    except RankfleetError as error:
        print(f"{spec.mode}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
