"""One block as two ONNX graphs: forward, and vector-Jacobian product.

Both take `x (b, s, d)`, `mask (b, 1, 1, s)` (added to the attention scores), `scale ()`, the block's frozen weights
under their local names and one table `adapter.<module> (r, d_in + 1 + d_out)` of ranks a module, laid out as
`edge_agent.wire.ranks` says. `forward` yields `y`; `vjp` also takes `dy` and yields `dx` and `gradient.<module>` in
the shape of the adapter's table. Batch, tokens and every module's rank are dynamic, rank 0 included.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import onnx
import torch
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from edge_agent.wire.errors import PackError

from .architectures.parts import Adapter, Parts

OPSET = 20  # the first with Gelu as one operator

_MOST = 65_536
_BATCH, _TOKENS, _FIRST_RANK = 3, 5, 7


def export_forward(parts: Parts, path: Path) -> None:
    """Writes the forward graph of a block."""

    def forward(x: Tensor, mask: Tensor, scale: Tensor, *frozen_and_tables: Tensor) -> tuple[Tensor, ...]:
        weights, adapters = _bind(parts, frozen_and_tables)
        return (parts.block(x, mask, weights, _scaled(adapters, scale)),)

    _export(forward, _inputs(parts), ["y"], path)


def export_vjp(parts: Parts, path: Path) -> None:
    """Writes the vector-Jacobian graph of a block; what lies inside of the block is computed again."""

    def vjp(x: Tensor, dy: Tensor, mask: Tensor, scale: Tensor, *frozen_and_tables: Tensor) -> tuple[Tensor, ...]:
        weights, adapters = _bind(parts, frozen_and_tables)

        def block(x: Tensor, adapters: dict[str, Adapter]) -> Tensor:
            return parts.block(x, mask, weights, _scaled(adapters, scale))

        pull = torch.func.vjp(block, x, adapters)[1]
        dx, gradients = pull(dy)
        return (dx, *(_join(gradients[name]) for name in parts.modules))

    outputs = ["dx", *(f"gradient.{name}" for name in parts.modules)]
    _export(vjp, _inputs(parts, "dy"), outputs, path)


def _bind(parts: Parts, tensors: tuple[Tensor, ...]) -> tuple[dict[str, Tensor], dict[str, Adapter]]:
    names = list(parts.blocks[0])
    weights = dict(zip(names, tensors[: len(names)], strict=True))
    tables = tensors[len(names) :]
    shapes = parts.modules.items()
    adapters = {
        name: Adapter(table[:, :d_in], table[:, d_in], table[:, d_in + 1 :])
        for (name, (d_in, _)), table in zip(shapes, tables, strict=True)
    }
    return weights, adapters


def _scaled(adapters: dict[str, Adapter], scale: Tensor) -> dict[str, Adapter]:
    return {name: adapter._replace(E=adapter.E * scale) for name, adapter in adapters.items()}


def _join(adapter: Adapter) -> Tensor:
    return torch.cat([adapter.A, adapter.E[:, None], adapter.B], dim=1)


class _Input(NamedTuple):
    """An argument to trace with, and which of its dimensions are dynamic; its values do not matter."""

    example: Tensor
    dynamic: dict[int, Dim] | None = None


def _inputs(parts: Parts, *gradients: str) -> dict[str, _Input]:
    """The arguments by their names in the graph. Every dynamic size differs: the tracer merges equal ones."""
    d_model = parts.embeddings["word"].shape[1]
    batch, tokens = Dim("batch", max=_MOST), Dim("tokens", max=_MOST)
    # One tensor each: the tracer takes arguments that are the same tensor for one argument.
    inputs = {name: _Input(torch.zeros(_BATCH, _TOKENS, d_model), {0: batch, 1: tokens}) for name in ("x", *gradients)}
    inputs["mask"] = _Input(torch.zeros(_BATCH, 1, 1, _TOKENS), {0: batch, 3: tokens})
    inputs["scale"] = _Input(torch.ones(()))
    inputs |= {name: _Input(weight) for name, weight in parts.blocks[0].items()}
    for index, (name, (d_in, d_out)) in enumerate(parts.modules.items()):
        table = torch.zeros(_FIRST_RANK + index, d_in + 1 + d_out)
        inputs[f"adapter.{name}"] = _Input(table, {0: Dim(f"rank_{index}", max=_MOST)})
    return inputs


def _export(function: Callable[..., Any], inputs: dict[str, _Input], outputs: list[str], path: Path) -> None:
    """Traces first: `torch.export` alone cannot see through `torch.func`."""
    arguments = tuple(item.example for item in inputs.values())
    traced = make_fx(function, tracing_mode="symbolic")(*arguments)
    exported = torch.export.export(traced, arguments, dynamic_shapes=tuple(item.dynamic for item in inputs.values()))
    with _quiet():
        program = torch.onnx.export(
            exported,
            dynamo=True,
            input_names=list(inputs),
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise PackError(f"torch {torch.__version__} exported nothing for {path.name}: use the pinned version")
    onnx.save(_stripped(program.model_proto), path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what the exporter says of packages that are not needed, and of torch's own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the traces of the machine that it was built on, so that the same model gives the same bytes."""
    graph = model.graph
    annotated: Iterable[Any] = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph]
    for item in annotated:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    del graph.value_info[:]
    return model
