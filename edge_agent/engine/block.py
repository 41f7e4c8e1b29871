"""One block of the model at a time: its effective weights, forward and backward through ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_agent.wire.pack import BACKWARD, FORWARD, INT8_BACKWARD, INT8_FORWARD, Manifest, ModuleEntry, Products
from edge_agent.wire.ranks import Rows

from .protocol import Float32
from .scratch import Scratch
from .session import Graph, Values
from .weights import WeightMap

_MERGED_AT_ONCE = 65_536

Arrays = dict[str, npt.NDArray[Any]]
Each = Callable[[Callable[[str], None], Iterable[str]], Iterable[None]]


class Factors(NamedTuple):
    """The ranks of one module: `A (r, d_in)`, `E (r,)` with the scale in it, `B (r, d_out)`."""

    A: Float32
    E: Float32
    B: Float32


class Blocks:
    """The blocks of a pack. `scale` is `s` in `W0 + s * B diag(E) A`, `products` how frozen matrices are multiplied.

    Hidden states are `(n, d)`: the tokens of all sequences one below the other.
    """

    def __init__(
        self, pack_dir: Path, manifest: Manifest, weights: WeightMap, *, scale: float, products: Products
    ) -> None:
        self._pack_dir = pack_dir
        self._manifest = manifest
        self._weights = weights
        self._scale = np.float32(scale)
        self._products = products
        self._shapes = {name: manifest.tensors[f"block.0.{name}"].shape for name in manifest.block_weights}
        self.scratch = Scratch()
        self._shrink = False

    @cached_property
    def _forward_graph(self) -> Graph:
        return Graph(self._pack_dir / (INT8_FORWARD if self._products == "int8" else FORWARD))

    @cached_property
    def _backward_graph(self) -> Graph:
        return Graph(self._pack_dir / (INT8_BACKWARD if self._products == "int8" else BACKWARD))

    def modules(self, block: int) -> list[ModuleEntry]:
        """The adapted layers of a block."""
        return [module for module in self._manifest.modules if module.block == block]

    def factors(self, block: int, rows: Rows) -> dict[str, Factors]:
        """The ranks of a block's modules, by local name."""
        return {module.local: self._split(rows[module.name], module.d_in) for module in self.modules(block)}

    def weights(self, block: int, factors: Mapping[str, Factors], *, slot: int, each: Each = map) -> Arrays:
        """The weights and factors of a block, as the graphs take them.

        Effective weights lie in memory that the next call with the same `slot` overwrites; for products of integers
        nothing is expanded. `each` applies a function to every tensor, as `map` does, or several at a time.
        """
        if self._products == "int8":
            return self._weights.mapped(block, self._manifest.block_weights) | _named("", factors)
        out = {name: self.scratch.array(("weight", slot, name), shape) for name, shape in self._shapes.items()}

        def expand(name: str) -> None:
            self._weights.tensor(f"block.{block}.{name}", out[name])
            if name.endswith(".weight") and name.removesuffix(".weight") in factors:
                merge(out[name], factors[name.removesuffix(".weight")])

        list(each(expand, out))
        return out | _named("", factors)

    def release(self, block: int) -> None:
        """Gives back the pages that a pass over the block has brought in."""
        self._weights.release(f"block.{block}")

    def kept(self, block: int, tokens: int) -> Arrays:
        """Memory for what the linear layers of a block put out for `tokens` tokens: of the block alone."""
        return {
            f"kept.{m.local}": self.scratch.array(("kept", block, m.local), (tokens, m.d_out))
            for m in self.modules(block)
        }

    def again(self, fixed: Values, feeds: Arrays) -> Arrays:
        """What the linear layers put out for one micro-batch, in memory of this thread."""
        tokens = len(feeds["x"])
        outputs = {f"kept.{m.local}": self.scratch.own(("kept", m.local), (tokens, m.d_out)) for m in self.modules(0)}
        self.forward(fixed, feeds, self.scratch.own("y", feeds["x"].shape), outputs)
        return outputs

    def give_back(self) -> None:
        """Gives back what is kept for the next step: at once, but ONNX Runtime's arena at the end of its next run."""
        self.scratch.clear()
        self._shrink = True

    def forward(self, fixed: Values, feeds: Arrays, y: Float32, kept: Arrays) -> None:
        """Computes into `y` and into the arrays `kept`, which may be none."""
        shrink, self._shrink = self._shrink, False
        self._forward_graph.run(fixed, feeds, {"y": y, **kept}, shrink=shrink)

    def backward(self, fixed: Values, feeds: Arrays, ranks: Mapping[str, int]) -> tuple[Float32, dict[str, Factors]]:
        """`dx`, and the gradients of the factors of modules with so many `ranks`, by local name."""
        dx = self.scratch.own("dx", feeds["x"].shape)
        gradients = {m.local: _empty(ranks[m.local], m.d_in, m.d_out) for m in self.modules(0)}
        self._backward_graph.run(fixed, feeds, {"dx": dx, **_named("d", gradients)})
        return dx, gradients

    def table(self, gradient: Factors) -> Float32:
        """The gradient of a module's rows `[A_i | E_i | B_i]`."""
        return np.concatenate([gradient.A, (gradient.E * self._scale)[:, None], gradient.B], axis=1)

    def _split(self, table: Float32, d_in: int) -> Factors:
        A, E, B = table[:, :d_in], table[:, d_in] * self._scale, table[:, d_in + 1 :]
        return Factors(np.ascontiguousarray(A), E, np.ascontiguousarray(B))


def _empty(ranks: int, d_in: int, d_out: int) -> Factors:
    return Factors(*(np.empty(shape, np.float32) for shape in ((ranks, d_in), (ranks,), (ranks, d_out))))


def merge(weight: Float32, factors: Factors) -> None:
    """Adds `A^T diag(E) B` to `weight (d_in, d_out)`, a few rows at a time, so that they stay in the cache."""
    if not len(factors.E):
        return
    right = factors.E[:, None] * factors.B
    for part in _parts(len(weight), max(1, _MERGED_AT_ONCE // weight.shape[1])):
        weight[part] += factors.A.T[part] @ right


def _parts(count: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _named(prefix: str, factors: Mapping[str, Factors]) -> Arrays:
    return {
        f"{prefix}{letter}.{name}": array
        for name, factor in factors.items()
        for letter, array in factor._asdict().items()
    }
