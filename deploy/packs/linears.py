"""The adapted linear layers of a block on a tape: in float32, or as products of 8-bit integers.

**float32**: the graphs take effective matrices, `W0 + s * B diag(E) A`: the engine merges the ranks while it expands
the weights, which costs less than to carry them through every token.

**int8**: the graphs take the frozen matrices as the pack stores them, and the ranks beside them. What enters a layer,
and its gradient on the way back, is rounded to 8 bits as it comes; products with the ranks, and the gradients of the
ranks, stay in float32. It is the scheme of SwitchBack (arXiv 2304.13013, section 2): gradients have a scale a row, for
their tokens differ by orders; what comes in forward has one scale and zero point for a micro-batch (ONNX's
DynamicQuantizeLinear), where a scale a row gains little for its time. Nothing is expanded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper

from edge_agent.wire.pack import Products

from .architectures.parts import Parts
from .tape import Tape

CONTRIB_DOMAIN = "com.microsoft"
"""ONNX Runtime's own operators: the standard has no product of integers with scales and bias in one pass."""
_MOST = 127
_ZERO = 128.0
"""Unsigned values stand for those from -127 to 127."""
_SMALLEST = float(np.finfo(np.float32).smallest_normal)


class Linears:
    """Linear layers in float32, on effective matrices."""

    def __init__(self, tape: Tape, parts: Parts) -> None:
        self._tape = tape
        self._biased = {name.removesuffix(".bias") for name in parts.blocks[0] if name.endswith(".bias")}

    def forward(self, x: str, *modules: str) -> list[str]:
        """What the layers put out for their common input `x`, as `kept.<module>`."""
        bias = {name: [f"{name}.bias"] if name in self._biased else [] for name in modules}
        return [self._tape.named(f"kept.{name}", "Gemm", x, f"{name}.weight", *bias[name]) for name in modules]

    def backward(self, x: str, *modules: str) -> list[str]:
        """The same values, given to the graph, with the way back to `x` and to the factors of the ranks."""
        outputs = [f"kept.{name}" for name in modules]
        self._tape.record_all(outputs, lambda *dz: {x: self._pull(x, modules, dz)})
        return outputs

    def _pull(self, x: str, modules: Sequence[str], dz: Sequence[str]) -> str:
        """The gradient of `x`; those of the factors become outputs of the graph.

        With `u = x A^T` and `v = dz B^T`: `dE = sum(u v)`, `dA = (v E)^T x`, `dB = (u E)^T dz`.
        """
        tape, weighed = self._tape, []
        for name, d, u in zip(modules, dz, self._through_a(x, modules), strict=True):
            v = tape.op("Gemm", d, f"B.{name}", transB=1)
            tape.named(f"dE.{name}", "ReduceSum", tape.op("Mul", u, v), tape.constant([0]), keepdims=0)
            tape.named(f"dB.{name}", "Gemm", tape.op("Mul", u, f"E.{name}"), d, transA=1)
            weighed.append(tape.op("Mul", v, f"E.{name}"))
        self._gradients_of_a(x, modules, weighed)
        return self._input_gradient(modules, dz, weighed)

    def _through_a(self, x: str, modules: Sequence[str]) -> list[str]:
        """`x A^T` of each module: one product with all of them together, for a few rows alone are slow."""
        tape, factors = self._tape, [f"A.{name}" for name in modules]
        if len(factors) == 1:
            return [tape.op("Gemm", x, factors[0], transB=1)]
        together = tape.op("Gemm", x, tape.op("Concat", *factors, axis=0), transB=1)
        return tape.ops("Split", [together, self._ranks(modules)], len(factors), axis=1)

    def _gradients_of_a(self, x: str, modules: Sequence[str], weighed: Sequence[str]) -> None:
        tape = self._tape
        if len(modules) == 1:
            tape.named(f"dA.{modules[0]}", "Gemm", weighed[0], x, transA=1)
            return
        together = tape.op("Gemm", tape.op("Concat", *weighed, axis=1), x, transA=1)
        outputs = [f"dA.{name}" for name in modules]
        tape.nodes.append(helper.make_node("Split", [together, self._ranks(modules)], outputs, axis=0))

    def _ranks(self, modules: Sequence[str]) -> str:
        """How many ranks each module has."""
        counts = [self._tape.op("Shape", f"A.{name}", start=0, end=1) for name in modules]
        return self._tape.op("Concat", *counts, axis=0)

    def _input_gradient(self, modules: Sequence[str], dz: Sequence[str], weighed: Sequence[str]) -> str:
        """`dz W^T`, summed over the modules."""
        dx = self._tape.op("Gemm", dz[0], f"{modules[0]}.weight", transB=1)
        for name, d in zip(modules[1:], dz[1:], strict=True):
            dx = self._tape.op("Gemm", d, f"{name}.weight", dx, transB=1)
        return dx


class Int8Linears(Linears):
    """Linear layers whose frozen products are of 8-bit integers."""

    def forward(self, x: str, *modules: str) -> list[str]:
        """See `Linears.forward`."""
        tape, quantised = self._tape, self._quantised(x)
        outputs = []
        for name, u in zip(modules, self._through_a(x, modules), strict=True):
            weight = f"{name}.weight"
            bias = f"{name}.bias" if name in self._biased else ""
            frozen = self._times(quantised, weight, f"{weight}.scale", bias)
            weighed = tape.op("Mul", u, f"E.{name}")
            outputs.append(tape.named(f"kept.{name}", "Gemm", weighed, f"B.{name}", frozen))
        return outputs

    def _input_gradient(self, modules: Sequence[str], dz: Sequence[str], weighed: Sequence[str]) -> str:
        """`(dz * scale) W^T + (v E) A`, summed over the modules."""
        tape, dx = self._tape, ""
        for name, d, ve in zip(modules, dz, weighed, strict=True):
            weight = f"{name}.weight"
            quantised, row_scale = self._quantised_by_row(tape.op("Mul", d, f"{weight}.scale"))
            frozen = self._times(quantised, tape.op("Transpose", weight, perm=[1, 0]), tape.constant(1.0))
            one = tape.op("Gemm", ve, f"A.{name}", tape.op("Mul", frozen, row_scale))
            dx = tape.op("Add", dx, one) if dx else one
        return dx

    def _quantised(self, x: str) -> list[str]:
        """`x` in 8 bits, its scale and its zero point."""
        return self._tape.ops("DynamicQuantizeLinear", [x], 3)

    def _quantised_by_row(self, x: str) -> tuple[list[str], str]:
        """`x` in 8 bits but for a scale a row `(n, 1)`, with the scale and the zero point that all rows have in common.

        The products know one scale, and are several times slower on signed values: so rows are scaled alike before.
        """
        tape, one = self._tape, self._tape.constant(1.0)
        largest = tape.op("ReduceMax", tape.op("Abs", x), tape.constant([1]), keepdims=1)
        # The gradient of padding is zero.
        row_scale = tape.op("Max", tape.op("Mul", largest, tape.constant(1 / _MOST)), tape.constant(_SMALLEST))
        zero = tape.op("Cast", tape.constant(_ZERO), to=TensorProto.UINT8)
        return [tape.op("QuantizeLinear", tape.op("Div", x, row_scale), one, zero), one, zero], row_scale

    def _times(self, quantised: Sequence[str], weight: str, scale: str, bias: str = "") -> str:
        """`x (weight * scale) + bias` in float32, for `weight (d, e)` int8 and `scale (e,)` or a number."""
        values, x_scale, zero = quantised
        inputs = [values, weight, x_scale, scale, zero, "", bias]
        return self._tape.op("MatMulIntegerToFloat", *inputs, domain=CONTRIB_DOMAIN)


LINEARS: dict[Products, type[Linears]] = {"float32": Linears, "int8": Int8Linears}
