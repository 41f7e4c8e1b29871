"""One block as two ONNX graphs, forward and backward, for any batch, sequence length and rank.

Both take `x (n, d)`, the `n = b * s` tokens of `b` sequences, and the block's frozen tensors under their local names;
`mask (b, 1, 1, s)` (`(b, 1, s, s)` for a decoder), which is added to the attention scores; and where the model has them
`relative (1, heads, s, s)`, which is added too, `cos` and `sin` `(s, size)`, which turn queries and keys. The matrices
are the *effective* ones, `W0 + s * B diag(E) A`: the engine merges the ranks while it expands the weights, which costs
less than to carry them through every token.

`forward` yields `y (n, d)` and `kept.<module> (n, d_out)`, what each linear layer put out. `backward` takes those in
place of computing them, the factors `A.<module> (r, d_in)`, `E.<module> (r,)` with the scale in it, `B.<module> (r,
d_out)` and `dy (n, d)`; it yields `dx (n, d)` and the gradients `dA.<module>`, `dE.<module>`, `dB.<module>`. So what
lies between the linear layers is computed again on the way back, and it is the engine's choice to keep what they put
out, or to run `forward` again first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from .architectures.parts import Parts
from .tape import Tape

OPSET = 20  # the first with Gelu as one operator
IR_VERSION = 9

_Shape = Sequence[str | int]
_TOKENS = "tokens"


def forward_graph(parts: Parts) -> onnx.ModelProto:
    """The forward graph of a block."""
    tape = Tape()

    def linear(x: str, *modules: str) -> list[str]:
        return [tape.named(f"kept.{name}", "Gemm", x, f"{name}.weight", *_bias(parts, name)) for name in modules]

    y = parts.block(tape, linear, "x")
    inputs = {"x": (_TOKENS, parts.d_model), **_context(parts), **_frozen(parts)}
    kept = {f"kept.{name}": (_TOKENS, d_out) for name, (_, d_out) in parts.modules.items()}
    return _model("forward", tape, {y: "y"}, inputs, {"y": (_TOKENS, parts.d_model), **kept})


def backward_graph(parts: Parts) -> onnx.ModelProto:
    """The backward graph of a block."""
    tape = Tape()

    def linear(x: str, *modules: str) -> list[str]:
        outputs = [f"kept.{name}" for name in modules]
        tape.record_all(outputs, lambda *dz: {x: _pull_linear(tape, x, modules, dz)})
        return outputs

    dx = tape.gradients(parts.block(tape, linear, "x"), "dy")["x"]
    tokens = (_TOKENS, parts.d_model)
    inputs: dict[str, _Shape] = {"x": tokens, "dy": tokens, **_context(parts), **_frozen(parts)}
    outputs: dict[str, _Shape] = {"dx": tokens}
    for name, (d_in, d_out) in parts.modules.items():
        rank = f"rank.{name}"
        inputs[f"kept.{name}"] = (_TOKENS, d_out)
        factors: dict[str, _Shape] = {f"A.{name}": (rank, d_in), f"E.{name}": (rank,), f"B.{name}": (rank, d_out)}
        inputs |= factors
        outputs |= {f"d{factor}": shape for factor, shape in factors.items()}
    return _model("backward", tape, {dx: "dx"}, inputs, outputs)


def _pull_linear(tape: Tape, x: str, modules: Sequence[str], dz: Sequence[str]) -> str:
    """The gradient of the input `x` that linear layers share; those of their factors become outputs of the graph.

    With `u = x A^T` and `v = dz B^T`: `dE = sum(u v)`, `dA = (v E)^T x`, `dB = (u E)^T dz`.
    """
    u = _parts(tape, "Gemm", x, [f"A.{name}" for name in modules], transB=1)
    weighed = []
    for name, d, part in zip(modules, dz, u, strict=True):
        v = tape.op("Gemm", d, f"B.{name}", transB=1)
        tape.named(f"dE.{name}", "ReduceSum", tape.op("Mul", part, v), tape.constant([0]), keepdims=0)
        tape.named(f"dB.{name}", "Gemm", tape.op("Mul", part, f"E.{name}"), d, transA=1)
        weighed.append(tape.op("Mul", v, f"E.{name}"))
    _gradients_of_a(tape, x, modules, weighed)
    dx = tape.op("Gemm", dz[0], f"{modules[0]}.weight", transB=1)
    for name, d in zip(modules[1:], dz[1:], strict=True):
        dx = tape.op("Gemm", d, f"{name}.weight", dx, transB=1)
    return dx


def _parts(tape: Tape, op_type: str, x: str, factors: Sequence[str], **attributes: int) -> list[str]:
    """The product of `x` with each factor `(r, d_in)`: one product with all of them, for a few rows alone are slow."""
    if len(factors) == 1:
        return [tape.op(op_type, x, factors[0], **attributes)]
    together = tape.op(op_type, x, tape.op("Concat", *factors, axis=0), **attributes)
    return tape.ops("Split", [together, _sizes(tape, factors)], len(factors), axis=1)


def _gradients_of_a(tape: Tape, x: str, modules: Sequence[str], weighed: Sequence[str]) -> None:
    if len(modules) == 1:
        tape.named(f"dA.{modules[0]}", "Gemm", weighed[0], x, transA=1)
        return
    together = tape.op("Gemm", tape.op("Concat", *weighed, axis=1), x, transA=1)
    sizes = _sizes(tape, [f"A.{name}" for name in modules])
    tape.nodes.append(helper.make_node("Split", [together, sizes], [f"dA.{name}" for name in modules], axis=0))


def _sizes(tape: Tape, factors: Sequence[str]) -> str:
    return tape.op("Concat", *(tape.op("Shape", factor, start=0, end=1) for factor in factors), axis=0)


def _bias(parts: Parts, module: str) -> list[str]:
    name = f"{module}.bias"
    return [name] if name in parts.blocks[0] else []


def _context(parts: Parts) -> dict[str, _Shape]:
    sequence = "sequence"
    shapes: dict[str, _Shape] = {"mask": ("batch", 1, sequence if parts.causal else 1, sequence)}
    if "relative" in parts.context:
        shapes["relative"] = (1, parts.heads, sequence, sequence)
    return shapes | {name: (sequence, parts.context[name].shape[1]) for name in ("cos", "sin") if name in parts.context}


def _frozen(parts: Parts) -> dict[str, _Shape]:
    return {name: tuple(tensor.shape) for name, tensor in parts.blocks[0].items()}


def _model(
    name: str, tape: Tape, renamed: Mapping[str, str], inputs: Mapping[str, _Shape], outputs: Mapping[str, _Shape]
) -> onnx.ModelProto:
    nodes = _renamed(tape.nodes, renamed)
    nodes = needed(nodes, outputs)
    used = {value for node in nodes for value in node.input}
    graph = helper.make_graph(
        nodes,
        name,
        [_info(key, shape) for key, shape in inputs.items() if key in used],
        [_info(key, shape) for key, shape in outputs.items()],
        [tensor for key, tensor in tape.constants.items() if key in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def needed(nodes: Sequence[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that `outputs` depend on, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]


def _renamed(nodes: Sequence[onnx.NodeProto], names: Mapping[str, str]) -> list[onnx.NodeProto]:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return list(nodes)


def _info(name: str, shape: _Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
