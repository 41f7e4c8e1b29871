from __future__ import annotations

import msgspec
import pytest

from profiling.bench.spec import AnySpec, OnnxSpec, PeftSpec, ProductsSpec, TorchSpec, Work

WORK = Work(batch=2, tokens=4, rank=2, threads=1, seed=0)


@pytest.mark.parametrize(
    "spec",
    [
        ProductsSpec("d", WORK, "numpy", ((8, 4),)),
        OnnxSpec("a", WORK, "/pack", "int8", 1, 0, (2, 2)),
        TorchSpec("b", WORK, "/model", ("x",), ("y",)),
        PeftSpec("c", WORK, "/model", ("x",), "lora"),
    ],
    ids=lambda spec: type(spec).__name__,
)
def test_specs_survive_the_command_line(spec: AnySpec) -> None:
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AnySpec) == spec
