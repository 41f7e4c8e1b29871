from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from profiling.bench import products
from profiling.bench.spec import Library, ProductsSpec, Work

WORK = Work(batch=2, tokens=4, rank=2, threads=1, seed=0)


@pytest.mark.parametrize("library", get_args(Library))
def test_every_library_steps(library: Library) -> None:
    step = products.make_products(ProductsSpec("products", WORK, library, ((8, 4), (4, 16))))
    assert step() == step() == 0.0


def test_onnxruntime_multiplies_what_it_is_given() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal((6, 8), np.float32), generator.standard_normal((8, 5), np.float32)
    _, (_, _, out) = _bound(a, b)
    assert np.allclose(out, a @ b, atol=1e-5)


def _bound(a: np.ndarray, b: np.ndarray) -> tuple[object, tuple[np.ndarray, ...]]:
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(products._product_graph(), providers=["CPUExecutionProvider"])
    binding, arrays = products._bind(session, a, b)
    session.run_with_iobinding(binding)
    return binding, arrays
