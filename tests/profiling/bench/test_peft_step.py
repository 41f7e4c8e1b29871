from __future__ import annotations

import pytest

pytest.importorskip("peft", reason="NOT TESTED: peft is not installed")

from profiling.bench.peft_step import make_peft_step
from profiling.bench.spec import PeftSpec, Work
from tests.profiling.bench.test_torch_step import MODEL, MODULES

WORK = Work(batch=4, tokens=8, rank=2, threads=1, seed=0)


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_steps_lower_the_loss(method: str) -> None:
    step = make_peft_step(PeftSpec(method, WORK, MODEL, MODULES, method))  # type: ignore[arg-type]
    losses = [step() for _ in range(6)]
    assert losses[-1] < losses[0]
