"""Reverse-mode differentiation that writes ONNX nodes: what is computed is noted on a tape, and pulled back from it.

Values are names of tensors in the graph. Hidden states are `(n, d)`, the tokens of all sequences of a micro-batch one
below the other. Every derivative is written out here with as few passes over memory as it takes, for ONNX Runtime
fuses little of what an exporter writes; `tests/deploy/packs/test_tape.py` compares each with torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Pullback = Callable[..., dict[str, str]]
"""From the gradients of the outputs, in order, to the gradients of the inputs, by the names of those inputs."""

_GELU_TANH = (math.sqrt(2 / math.pi), 0.044715)


class Tape:
    """Nodes of a graph in order, its constants, and how each value is pulled back."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._pullbacks: list[tuple[tuple[str, ...], Pullback]] = []
        self._count = 0

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name."""
        return self.ops(op_type, inputs, 1, **attributes)[0]

    def named(self, name: str, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node whose one output is called `name`, for the graph's own outputs."""
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], **attributes))
        return name

    def ops(self, op_type: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Adds a node with several outputs; returns their names."""
        names = []
        for _ in range(outputs):
            self._count += 1
            names.append(f"{op_type.lower()}_{self._count}")
        self.nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def constant(self, value: float | Sequence[int]) -> str:
        """A float32 scalar or an int64 vector; equal ones are one tensor."""
        array = np.asarray(value, np.float32 if isinstance(value, float) else np.int64)
        name = f"constant_{array.dtype}_{'_'.join(str(number) for number in array.flatten())}"
        self.constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def record(self, output: str, pullback: Pullback) -> str:
        """Notes how `output` is pulled back."""
        self.record_all((output,), pullback)
        return output

    def record_all(self, outputs: Sequence[str], pullback: Pullback) -> None:
        """Notes how several outputs are pulled back together: all of them must lead to the graph's output."""
        self._pullbacks.append((tuple(outputs), pullback))

    def gradients(self, output: str, seed: str) -> dict[str, str]:
        """The gradient of every value that `output` depends on, when that of `output` is `seed`."""
        found = {output: seed}
        for outputs, pullback in reversed(self._pullbacks):
            if outputs[0] in found:
                for name, gradient in pullback(*(found[name] for name in outputs)).items():
                    found[name] = self.op("Add", found[name], gradient) if name in found else gradient
        return found

    def add(self, a: str, b: str) -> str:
        """`a + b`, of equal shapes."""
        return self.record(self.op("Add", a, b), lambda dy: self._both(a, dy, b, dy))

    def mul(self, a: str, b: str) -> str:
        """`a * b`, of equal shapes."""
        return self.record(
            self.op("Mul", a, b), lambda dy: self._both(a, self.op("Mul", dy, b), b, self.op("Mul", dy, a))
        )

    def split(self, x: str, widths: Sequence[int]) -> list[str]:
        """`x (n, sum of widths)` as one `(n, width)` each, all of which must lead to the graph's output."""
        parts = self.ops("Split", [x, self.constant(widths)], len(widths), axis=-1)
        self.record_all(parts, lambda *gradients: {x: self.op("Concat", *gradients, axis=-1)})
        return parts

    def activation(self, x: str, name: str) -> str:
        """The activation that transformers calls `name`: one of `ACTIVATIONS`."""
        return ACTIVATIONS[name](self, x)

    def layer_norm(self, x: str, weight: str, bias: str, eps: float) -> str:
        """Layer normalisation over the last dimension (arXiv 1607.06450)."""
        y, mean, inverse = self.ops("LayerNormalization", [x, weight, bias], 3, axis=-1, epsilon=eps)

        def pullback(dy: str) -> dict[str, str]:
            g, centred = self.op("Mul", dy, weight), self.op("Sub", x, mean)
            shift = self._mean(g)
            share = self.op("Mul", self._mean(self.op("Mul", g, centred)), self.op("Mul", inverse, inverse))
            lost = self.op("Add", self.op("Mul", centred, share), shift)
            return {x: self.op("Mul", self.op("Sub", g, lost), inverse)}

        return self.record(y, pullback)

    def rms_norm(self, x: str, weight: str, eps: float) -> str:
        """Root mean square normalisation over the last dimension (arXiv 1910.07467)."""
        variance = self.op("Add", self._mean(self.op("Mul", x, x)), self.constant(eps))
        inverse = self.op("Reciprocal", self.op("Sqrt", variance))
        y = self.op("Mul", self.op("Mul", x, inverse), weight)

        def pullback(dy: str) -> dict[str, str]:
            g = self.op("Mul", dy, weight)
            share = self.op("Mul", self._mean(self.op("Mul", g, x)), self.op("Mul", inverse, inverse))
            return {x: self.op("Mul", self.op("Sub", g, self.op("Mul", x, share)), inverse)}

        return self.record(y, pullback)

    def _both(self, a: str, da: str, b: str, db: str) -> dict[str, str]:
        """The gradients of two inputs, which may be the same value."""
        return {a: self.op("Add", da, db)} if a == b else {a: da, b: db}

    def _mean(self, x: str) -> str:
        return self.op("ReduceMean", x, self.constant([-1]), keepdims=1)


def _gelu(tape: Tape, x: str) -> str:
    """`x Phi(x)`; its derivative is `Phi(x) + x phi(x)` (arXiv 1606.08415)."""

    def pullback(dy: str) -> dict[str, str]:
        t = tape.op("Mul", x, tape.constant(math.sqrt(0.5)))
        density = tape.op("Exp", tape.op("Mul", t, tape.op("Mul", x, tape.constant(-math.sqrt(0.5)))))
        bell = tape.op("Mul", tape.op("Mul", t, density), tape.constant(1 / math.sqrt(math.pi)))
        half = tape.constant(0.5)
        cumulated = tape.op("Add", tape.op("Mul", tape.op("Erf", t), half), half)
        return {x: tape.op("Mul", dy, tape.op("Add", cumulated, bell))}

    return tape.record(tape.op("Gelu", x), pullback)


def _gelu_tanh(tape: Tape, x: str) -> str:
    """The approximation `x (1 + tanh(c (x + a x^3))) / 2` (arXiv 1606.08415, section 2)."""
    c, a = _GELU_TANH

    def pullback(dy: str) -> dict[str, str]:
        square = tape.op("Mul", x, x)
        inner = tape.op("Add", tape.op("Mul", square, tape.constant(a * c)), tape.constant(c))
        slope = tape.op("Add", tape.op("Mul", square, tape.constant(3 * a * c)), tape.constant(c))
        tanh = tape.op("Tanh", tape.op("Mul", x, inner))
        rest = tape.op("Sub", tape.constant(1.0), tape.op("Mul", tanh, tanh))
        bend = tape.op("Mul", tape.op("Mul", x, slope), rest)
        whole = tape.op("Add", tape.op("Add", tanh, tape.constant(1.0)), bend)
        return {x: tape.op("Mul", dy, tape.op("Mul", whole, tape.constant(0.5)))}

    return tape.record(tape.op("Gelu", x, approximate="tanh"), pullback)


def _relu(tape: Tape, x: str) -> str:
    y = tape.op("Relu", x)
    zero = tape.constant(0.0)
    return tape.record(y, lambda dy: {x: tape.op("Where", tape.op("Greater", x, zero), dy, zero)})


def _silu(tape: Tape, x: str) -> str:
    """`x sigma(x)`; its derivative is `sigma (1 + x (1 - sigma))`."""
    sigmoid = tape.op("Sigmoid", x)
    y = tape.op("Mul", x, sigmoid)

    def pullback(dy: str) -> dict[str, str]:
        bend = tape.op("Mul", tape.op("Sub", x, y), sigmoid)
        return {x: tape.op("Mul", dy, tape.op("Add", sigmoid, bend))}

    return tape.record(y, pullback)


ACTIVATIONS: dict[str, Callable[[Tape, str], str]] = {
    "gelu": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": _relu,
    "silu": _silu,
}
