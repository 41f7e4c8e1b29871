"""One block as two ONNX graphs: forward, and vector-Jacobian product.

Both take `x (b, s, d)`, `mask (b, 1, 1, s)` (added to the attention scores), `scale ()`, the block's frozen weights
under their local names and one table `adapter.<module> (r, d_in + 1 + d_out)` of ranks a module, laid out as
`edge_agent.wire.ranks` says. `forward` yields `y`; `vjp` also takes `dy` and yields `dx` and `gradient.<module>` in
the shape of the adapter's table. Batch, tokens and every module's rank are dynamic, rank 0 included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from .architectures.parts import Adapter, Parts

OPSET = 20  # the first with Gelu as one operator

_MOST = 65_536


@dataclass(frozen=True)
class _Example:
    """Arguments to trace with. Every dynamic size differs from every other: the tracer merges equal ones."""

    parts: Parts
    batch: int = 3
    tokens: int = 5
    first_rank: int = 7

    @property
    def d_model(self) -> int:
        return self.parts.embeddings["word"].shape[1]

    @cached_property
    def x(self) -> Tensor:
        return torch.randn(self.batch, self.tokens, self.d_model)

    @cached_property
    def mask(self) -> Tensor:
        return torch.zeros(self.batch, 1, 1, self.tokens)

    @cached_property
    def tables(self) -> list[Tensor]:
        widths = (d_in + 1 + d_out for d_in, d_out in self.parts.modules.values())
        return [torch.randn(self.first_rank + 2 * index, width) for index, width in enumerate(widths)]


def export_forward(parts: Parts, path: Path) -> None:
    """Writes the forward graph of a block."""
    example = _Example(parts)

    def forward(x: Tensor, mask: Tensor, scale: Tensor, *frozen_and_tables: Tensor) -> tuple[Tensor, ...]:
        weights, adapters = _bind(parts, frozen_and_tables)
        return (parts.block(x, mask, weights, _scaled(adapters, scale)),)

    _export(forward, example, {}, ["y"], path)


def export_vjp(parts: Parts, path: Path) -> None:
    """Writes the vector-Jacobian graph of a block; what lies inside of the block is computed again."""
    example = _Example(parts)

    def vjp(x: Tensor, mask: Tensor, scale: Tensor, dy: Tensor, *frozen_and_tables: Tensor) -> tuple[Tensor, ...]:
        weights, adapters = _bind(parts, frozen_and_tables)

        def block(x: Tensor, adapters: dict[str, Adapter]) -> Tensor:
            return parts.block(x, mask, weights, _scaled(adapters, scale))

        _, pull = torch.func.vjp(block, x, adapters)
        dx, gradients = pull(dy)
        return (dx, *(_join(gradients[name]) for name in parts.modules))

    outputs = ["dx", *(f"gradient.{name}" for name in parts.modules)]
    _export(vjp, example, {"dy": torch.randn_like(example.x)}, outputs, path)


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


def _export(
    function: Callable[..., Any], example: _Example, extra: dict[str, Tensor], outputs: list[str], path: Path
) -> None:
    """Traces first: `torch.export` alone cannot see through `torch.func`."""
    frozen = example.parts.blocks[0]
    batch, tokens = Dim("batch", max=_MOST), Dim("tokens", max=_MOST)
    fixed = {"x": example.x, "mask": example.mask, "scale": torch.ones(()), **extra}
    named = {
        **fixed,
        **frozen,
        **{f"adapter.{n}": t for n, t in zip(example.parts.modules, example.tables, strict=True)},
    }
    dynamic: dict[str, Any] = {name: {0: batch, 1: tokens} for name in ("x", *extra)}
    dynamic["mask"] = {0: batch, 3: tokens}
    dynamic |= {f"adapter.{n}": {0: Dim(f"rank_{i}", max=_MOST)} for i, n in enumerate(example.parts.modules)}
    arguments = tuple(named.values())
    traced = make_fx(function, tracing_mode="symbolic")(*arguments)
    program = torch.export.export(traced, arguments, dynamic_shapes=tuple(dynamic.get(name) for name in named))
    onnx_program = torch.onnx.export(
        program,
        arguments,
        dynamo=True,
        input_names=list(named),
        output_names=outputs,
        opset_version=OPSET,
        verbose=False,
    )
    assert onnx_program is not None
    onnx.save(_stripped(onnx_program.model_proto), path)


def _stripped(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the traces of the machine that it was built on, so that the same model gives the same bytes."""
    graph = model.graph
    annotated: Iterable[Any] = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph]
    for item in annotated:
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    del graph.value_info[:]
    return model
