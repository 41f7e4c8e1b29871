"""Training block by block with plain ONNX Runtime, at the memory of one block.

All micro-batches pass a block before the next block is looked at, so a block's weights are expanded once a pass. On
the way up only the inputs of blocks are kept, and only of those that train; on the way back a block computes what lies
inside of it again (gradient checkpointing, arXiv 1604.06174, with one checkpoint a block).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import FORWARD, VJP, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows

from .checks import check_batch, check_rows
from .embedding import embed
from .head import classify, cross_entropy, pooling_of
from .protocol import Batch, Float32, Gradients
from .session import Graph
from .weights import WeightMap

_MASKED = np.finfo(np.float32).min


class BlockwiseEngine:
    """An `Engine` for the pack in `pack_dir`, whose modules `layout` must list. Computes with `threads` threads.

    `scale` is `s` in `W0 + s * B diag(E) A`.

    Raises:
        PackError: a pack that cannot be read.
        EngineError: a layout of another model.
    """

    def __init__(self, pack_dir: Path, layout: Layout, *, threads: int, scale: float) -> None:
        self._pack_dir = pack_dir
        self._threads = threads
        self._layout = layout
        self._manifest = load_manifest(pack_dir)
        if module_layout(self._manifest, layout.slots, layout.classes) != layout:
            raise EngineError(f"the layout's modules are not those of {self._manifest.model}: another pack was meant")
        self._weights = WeightMap(pack_dir, self._manifest)
        self._pooling = pooling_of(self._manifest, self._weights)
        self._scale = np.asarray(scale, np.float32)

    def step(self, batch: Batch, rows: Rows, *, lowest_block: int, micro_batch: int) -> Gradients:
        """See `Engine.step`."""
        if batch.labels is None:
            raise EngineError("a training step needs a batch with labels")
        if not 0 <= lowest_block <= self._layout.blocks:
            raise EngineError(f"lowest_block must lie in 0 to {self._layout.blocks}, got {lowest_block}")
        self._check(batch, rows, micro_batch)
        stop = self._lowest_living(rows, lowest_block)
        inputs = self._forward(batch, rows, stop, micro_batch)
        hidden = inputs.pop()
        loss = cross_entropy(self._pooling.pool(hidden, batch.attention_mask), rows[HEAD], batch.labels)
        dy = self._pooling.pull(hidden, batch.attention_mask, loss.d_pooled)
        gradients = {m.name: np.zeros_like(rows[m.name]) for m in self._layout.modules if m.block >= lowest_block}
        for block in reversed(range(stop, self._layout.blocks)):
            gradients |= self._backward(block, inputs.pop(), dy, batch, rows, micro_batch)
        return Gradients(loss.value, {**gradients, HEAD: loss.d_head}, loss.correct)

    def logits(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """See `Engine.logits`."""
        self._check(batch, rows, micro_batch)
        (hidden,) = self._forward(batch, rows, self._layout.blocks, micro_batch)
        return classify(self._pooling.pool(hidden, batch.attention_mask), rows[HEAD])

    @cached_property
    def _forward_graph(self) -> Graph:
        return Graph(self._pack_dir / FORWARD, self._threads)

    @cached_property
    def _vjp_graph(self) -> Graph:
        return Graph(self._pack_dir / VJP, self._threads)

    def _check(self, batch: Batch, rows: Rows, micro_batch: int) -> None:
        check_batch(batch, self._manifest, self._layout.classes)
        check_rows(rows, self._layout)
        if micro_batch < 1:
            raise EngineError(f"a micro-batch holds at least 1 example, got {micro_batch}")

    def _lowest_living(self, rows: Rows, lowest_block: int) -> int:
        """The lowest block that has something to train: the way back ends there."""
        living = (m.block for m in self._layout.modules if m.block >= lowest_block and len(rows[m.name]))
        return min(living, default=self._layout.blocks)

    def _forward(self, batch: Batch, rows: Rows, keep_from: int, micro_batch: int) -> list[Float32]:
        """The inputs of the blocks from `keep_from` on, followed by the output of the last block."""
        mask = _additive(batch)
        states = [embed(self._weights, self._manifest, batch.input_ids, micro_batch)]
        for block in range(self._layout.blocks):
            x = y = states[-1]
            if block >= keep_from:
                y = np.empty_like(x)
                states.append(y)
            feeds = self._feeds(block, rows)
            for part in _parts(len(x), micro_batch):
                (y[part],) = self._forward_graph.run(["y"], {"x": x[part], "mask": mask[part], **feeds})
        return states

    def _backward(self, block: int, x: Float32, dy: Float32, batch: Batch, rows: Rows, micro_batch: int) -> Rows:
        """Gradients of the block's living modules. `dy` becomes the gradient of the block's input `x`."""
        mask, feeds = _additive(batch), self._feeds(block, rows)
        living = [m for m in self._manifest.modules if m.block == block and len(rows[m.name])]
        outputs = ["dx", *(f"gradient.{m.local}" for m in living)]
        sums = {m.name: np.zeros_like(rows[m.name]) for m in living}
        for part in _parts(len(x), micro_batch):
            varying = {"x": x[part], "mask": mask[part], "dy": dy[part]}
            dy[part], *gradients = self._vjp_graph.run(outputs, {**varying, **feeds})
            for module, gradient in zip(living, gradients, strict=True):
                sums[module.name] += gradient
        return sums

    def _feeds(self, block: int, rows: Rows) -> dict[str, Float32]:
        """What is the same for all micro-batches."""
        adapters = {f"adapter.{m.local}": rows[m.name] for m in self._manifest.modules if m.block == block}
        return {"scale": self._scale, **self._weights.block(block), **adapters}


def _parts(examples: int, micro_batch: int) -> Iterator[slice]:
    return (slice(start, start + micro_batch) for start in range(0, examples, micro_batch))


def _additive(batch: Batch) -> Float32:
    """The mask as the graphs take it, `(b, 1, 1, s)`: zero for a token, the lowest number for padding."""
    mask: Float32 = np.where(batch.attention_mask, np.float32(0), _MASKED)
    return mask[:, None, None, :]
