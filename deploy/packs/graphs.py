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

With `products="int8"` both graphs take the matrices as the pack stores them, with `<module>.weight.scale (d_out,)`, and
`forward` the factors too: see `linears`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from edge_agent.wire.pack import Products

from .architectures.parts import Parts
from .linears import CONTRIB_DOMAIN, LINEARS
from .tape import Tape

OPSET = 20  # the first with Gelu as one operator
IR_VERSION = 9

_Shape = Sequence[str | int]
_TOKENS = "tokens"


def forward_graph(parts: Parts, products: Products = "float32") -> onnx.ModelProto:
    """The forward graph of a block."""
    tape = Tape()
    y = parts.block(tape, LINEARS[products](tape, parts).forward, "x")
    inputs = {**_given(parts, products), **(_factors(parts) if products == "int8" else {})}
    return _model("forward", tape, {y: "y"}, inputs, {"y": (_TOKENS, parts.d_model), **_kept(parts)})


def backward_graph(parts: Parts, products: Products = "float32") -> onnx.ModelProto:
    """The backward graph of a block."""
    tape = Tape()
    y = parts.block(tape, LINEARS[products](tape, parts).backward, "x")
    dx = tape.gradients(y, "dy")["x"]
    factors, states = _factors(parts), (_TOKENS, parts.d_model)
    inputs = {**_given(parts, products), "dy": states, **_kept(parts), **factors}
    gradients = {f"d{name}": shape for name, shape in factors.items()}
    return _model("backward", tape, {dx: "dx"}, inputs, {"dx": states, **gradients})


def _given(parts: Parts, products: Products) -> dict[str, _Shape]:
    """What both graphs take."""
    frozen = {name: tuple(tensor.shape) for name, tensor in parts.blocks[0].items()}
    if products == "int8":
        frozen |= {f"{name}.weight.scale": (d_out,) for name, (_, d_out) in parts.modules.items()}
    return {"x": (_TOKENS, parts.d_model), **_context(parts), **frozen}


def _factors(parts: Parts) -> dict[str, _Shape]:
    shapes: dict[str, _Shape] = {}
    for name, (d_in, d_out) in parts.modules.items():
        rank = f"rank.{name}"
        shapes |= {f"A.{name}": (rank, d_in), f"E.{name}": (rank,), f"B.{name}": (rank, d_out)}
    return shapes


def _kept(parts: Parts) -> dict[str, _Shape]:
    return {f"kept.{name}": (_TOKENS, d_out) for name, (_, d_out) in parts.modules.items()}


def _context(parts: Parts) -> dict[str, _Shape]:
    sequence = "sequence"
    shapes: dict[str, _Shape] = {"mask": ("batch", 1, sequence if parts.causal else 1, sequence)}
    if "relative" in parts.context:
        shapes["relative"] = (1, parts.heads, sequence, sequence)
    return shapes | {name: (sequence, parts.context[name].shape[1]) for name in ("cos", "sin") if name in parts.context}


def _model(
    name: str, tape: Tape, renamed: Mapping[str, str], inputs: Mapping[str, _Shape], outputs: Mapping[str, _Shape]
) -> onnx.ModelProto:
    nodes = _renamed(tape.nodes, renamed)
    nodes = needed(nodes, outputs)
    used = {value for node in nodes for value in node.input}
    integers = _integers(nodes)
    graph = helper.make_graph(
        nodes,
        name,
        [_info(key, shape, key in integers) for key, shape in inputs.items() if key in used],
        [_info(key, shape) for key, shape in outputs.items()],
        [tensor for key, tensor in tape.constants.items() if key in used],
    )
    opsets = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(CONTRIB_DOMAIN, 1)] if integers else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
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


def _integers(nodes: Sequence[onnx.NodeProto]) -> set[str]:
    """The matrices that are multiplied as integers."""
    turned = {node.output[0]: node.input[0] for node in nodes if node.op_type == "Transpose"}
    weights = [node.input[1] for node in nodes if node.domain == CONTRIB_DOMAIN]
    return {turned.get(name, name) for name in weights}


def _info(name: str, shape: _Shape, integer: bool = False) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT8 if integer else TensorProto.FLOAT, list(shape))
