"""A pack's forward graph, computed by torch: an interpreter for the ONNX operators that blocks are made of.

The graph stays what says how a block computes, so that a pack means the same to both engines; autograd takes the place
of its backward graph. Linear layers are left to the caller, for their ranks are not in the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from edge_agent.wire.errors import PackError

Linear = Callable[[Tensor, str], Tensor]
"""Applies a linear layer of the block, bias and ranks included: `x (n, d_in)` and the layer's local name."""

_Attributes = dict[str, Any]
_Operator = Callable[[Sequence[Tensor], _Attributes], Sequence[Tensor]]
_WEIGHT = ".weight"


class TorchGraph:
    """The forward graph in the file `path`.

    Raises:
        PackError: a graph that cannot be read, or with an operator that is not known here.
    """

    def __init__(self, path: Path) -> None:
        try:
            graph = onnx.load(str(path)).graph
        except Exception as error:  # protobuf's own errors share no base class
            raise PackError(f"{path} cannot be read as an ONNX graph ({error}): get the pack again") from error
        self._constants = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
        self._nodes = [_Node(node) for node in graph.node]
        unknown = {node.op_type for node in self._nodes} - _OPERATORS.keys() - {_LINEAR}
        if unknown:
            raise PackError(
                f"{path} has operators that this version does not know, {sorted(unknown)}: update rankfleet"
            )

    def run(self, feeds: Mapping[str, Tensor], linear: Linear) -> Tensor:
        """The block's output `y (n, d)`. `feeds` are the graph's inputs but for the matrices and their biases."""
        values = {**self._constants, **feeds}
        for node in self._nodes:
            if node.op_type == _LINEAR:
                outputs: Sequence[Tensor] = [linear(values[node.inputs[0]], node.inputs[1].removesuffix(_WEIGHT))]
            else:
                outputs = _OPERATORS[node.op_type]([values[name] for name in node.inputs], node.attributes)
            # An operator may yield more than the graph takes of it.
            values.update(zip(node.outputs, outputs, strict=False))
        return values["y"]


class _Node:
    def __init__(self, node: onnx.NodeProto) -> None:
        self.op_type = node.op_type
        self.inputs = list(node.input)
        self.outputs = list(node.output)
        self.attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}


_LINEAR = "Gemm"  # blocks have no other products of two matrices alone


def _reshape(inputs: Sequence[Tensor], attributes: _Attributes) -> list[Tensor]:
    """In ONNX a size of 0 stands for that of the input."""
    x, shape = inputs
    sizes = [x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())]
    return [x.reshape(sizes)]


def _layer_norm(inputs: Sequence[Tensor], attributes: _Attributes) -> list[Tensor]:
    x, weight, bias = inputs
    return [functional.layer_norm(x, x.shape[-1:], weight, bias, attributes["epsilon"])]


def _reduce_mean(inputs: Sequence[Tensor], attributes: _Attributes) -> list[Tensor]:
    x, axes = inputs
    return [x.mean(axes.tolist(), keepdim=bool(attributes["keepdims"]))]


def _gelu(inputs: Sequence[Tensor], attributes: _Attributes) -> list[Tensor]:
    return [functional.gelu(inputs[0], approximate=attributes.get("approximate", b"none").decode())]


def _shape(inputs: Sequence[Tensor], attributes: _Attributes) -> list[Tensor]:
    """Shapes stay on the CPU, whatever the device."""
    return [torch.tensor(inputs[0].shape[attributes["start"] : attributes["end"]])]


_OPERATORS: dict[str, _Operator] = {
    "Add": lambda x, _: [x[0] + x[1]],
    "Concat": lambda x, a: [torch.cat(list(x), a["axis"])],
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
    "MatMul": lambda x, _: [x[0] @ x[1]],
    "Mul": lambda x, _: [x[0] * x[1]],
    "Reciprocal": lambda x, _: [x[0].reciprocal()],
    "ReduceMean": _reduce_mean,
    "Relu": lambda x, _: [x[0].relu()],
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda x, _: [x[0].sigmoid()],
    "Softmax": lambda x, a: [x[0].softmax(a["axis"])],
    "Split": lambda x, a: torch.split_with_sizes(x[0], x[1].tolist(), a["axis"]),
    "Sqrt": lambda x, _: [x[0].sqrt()],
    "Sub": lambda x, _: [x[0] - x[1]],
    "Transpose": lambda x, a: [x[0].permute(*a["perm"])],
}
