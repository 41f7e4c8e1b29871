"""The matrix products of a block alone, forward and back, by one library: what the machine could do at best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .spec import ProductsSpec

Float32 = npt.NDArray[np.float32]
Pair = tuple[Float32, Float32]


def make_products(spec: ProductsSpec) -> Callable[[], float]:
    """A step that multiplies, for each shape, `x (n, d_in)` by `W`, and `dy (n, d_out)` by `W^T`."""
    makers: dict[str, Callable[[list[Pair], int], Callable[[], None]]] = {
        "torch": _torch,
        "numpy": _numpy,
        "onnxruntime": _onnxruntime,
    }
    multiply = makers[spec.library](_pairs(spec), spec.work.threads)

    def step() -> float:
        multiply()
        return 0.0

    return step


def _pairs(spec: ProductsSpec) -> list[Pair]:
    """What is multiplied; the transposed matrices are stored as such."""
    generator, tokens = np.random.default_rng(spec.work.seed), spec.work.batch * spec.work.tokens

    def random(*shape: int) -> Float32:
        return generator.standard_normal(shape, np.float32)

    forward = [(random(tokens, d_in), random(d_in, d_out)) for d_in, d_out in spec.shapes]
    return forward + [(random(tokens, d_out), random(d_out, d_in)) for d_in, d_out in spec.shapes]


def _numpy(pairs: list[Pair], threads: int) -> Callable[[], None]:
    """OpenBLAS took the number of threads from the environment."""
    outputs = [np.empty((len(a), b.shape[1]), np.float32) for a, b in pairs]

    def multiply() -> None:
        for (a, b), out in zip(pairs, outputs, strict=True):
            np.matmul(a, b, out=out)

    return multiply


def _torch(pairs: list[Pair], threads: int) -> Callable[[], None]:
    import torch  # noqa: PLC0415 (the other libraries are measured without it)

    torch.set_num_threads(threads)
    tensors = [(torch.from_numpy(a), torch.from_numpy(b), torch.empty(len(a), b.shape[1])) for a, b in pairs]

    def multiply() -> None:
        for a, b, out in tensors:
            torch.mm(a, b, out=out)

    return multiply


def _onnxruntime(pairs: list[Pair], threads: int) -> Callable[[], None]:
    """One session of one product whose both sides are inputs, as in a pack's graphs."""
    import onnxruntime  # noqa: PLC0415 (as above)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")  # what comes next is another's turn
    session = onnxruntime.InferenceSession(_product_graph(), options, providers=["CPUExecutionProvider"])
    bound = [_bind(session, *pair) for pair in pairs]

    def multiply() -> None:
        for binding, _ in bound:
            session.run_with_iobinding(binding)

    return multiply


def _bind(session: Any, a: Float32, b: Float32) -> tuple[Any, tuple[Float32, ...]]:
    """The binding, and the arrays that it points to."""
    out, binding = np.empty((len(a), b.shape[1]), np.float32), session.io_binding()
    for name, array in (("a", a), ("b", b)):
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    binding.bind_output("y", "cpu", 0, out.dtype, out.shape, out.ctypes.data)
    return binding, (a, b, out)


def _product_graph() -> bytes:
    from onnx import TensorProto, helper  # noqa: PLC0415 (as above)

    a, b, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "aby")
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", [a, b], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return model.SerializeToString()
