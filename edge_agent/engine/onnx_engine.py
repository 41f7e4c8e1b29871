"""Training block by block with plain ONNX Runtime, at the memory of one block.

All micro-batches pass a block before the next block is looked at, so a block's weights are expanded once a pass. On
the way up the inputs of the blocks that train are kept; on the way back what lies inside of a block is computed again
(gradient checkpointing, arXiv 1604.06174, with one checkpoint a block), except in the `kept_blocks` uppermost, whose
effective weights and outputs of linear layers are kept as well.

Each micro-batch is computed by one thread, `threads` micro-batches at a time: cores that share the work of one small
product wait for each other more than they compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from edge_agent.wire.errors import EngineError
from edge_agent.wire.pack import Products, load_manifest, module_layout
from edge_agent.wire.ranks import HEAD, Layout, Rows

from .block import Arrays, Blocks
from .checks import check_batch, check_rows, check_start
from .context import additive_mask, positional
from .embedding import embed
from .head import classify
from .objective import Objective
from .protocol import Batch, Float32, Gradients, Prefix
from .session import Values, prepared
from .weights import WeightMap

_Result = TypeVar("_Result")
_SHARED = -1
"""The slot of memory that blocks use in turn; a kept block has its own."""


class BlockwiseEngine:
    """An `Engine` for the pack in `pack_dir`, whose modules `layout` must list. Computes with `threads` threads.

    `scale` is `s` in `W0 + s * B diag(E) A`. With `products="int8"`, for packs with int8 weights, frozen matrices are
    multiplied as 8-bit integers: faster, in less memory, and not exact.

    Raises:
        PackError: a pack that cannot be read.
        EngineError: a layout of another model, or products that the pack does not allow.
    """

    def __init__(
        self, pack_dir: Path, layout: Layout, *, threads: int, scale: float, products: Products = "float32"
    ) -> None:
        self._layout = layout
        self._manifest = load_manifest(pack_dir)
        if module_layout(self._manifest, layout.slots, layout.classes) != layout:
            raise EngineError(f"the layout's modules are not those of {self._manifest.model}: another pack was meant")
        if products == "int8" != self._manifest.weights:
            raise EngineError(
                f"products of integers need a pack with int8 weights, this one has {self._manifest.weights} weights: "
                'set products = "float32"'
            )
        self._weights = WeightMap(pack_dir, self._manifest)
        self._objective = Objective(self._manifest, self._weights)
        self._blocks = Blocks(pack_dir, self._manifest, self._weights, scale=scale, products=products)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="engine")

    def step(self, batch: Batch, rows: Rows, *, lowest_block: int, micro_batch: int, kept_blocks: int = 0) -> Gradients:
        """See `Engine.step`."""
        if batch.labels is None:
            raise EngineError("a training step needs a batch with labels")
        if not 0 <= lowest_block <= self._layout.blocks:
            raise EngineError(f"lowest_block must lie in 0 to {self._layout.blocks}, got {lowest_block}")
        given = self._given(batch, rows, micro_batch)
        stop = self._lowest_living(rows, lowest_block)
        check_start(batch.prefix, stop)
        states, kept = self._forward(given, stop, max(stop, self._layout.blocks - kept_blocks), self._layout.blocks)
        hidden = states.pop().reshape(*batch.input_ids.shape, -1)
        loss = self._objective.loss(hidden, batch, batch.labels, rows[HEAD])
        dy = loss.d_hidden.reshape(-1, self._manifest.d_model)
        gradients = {m.name: np.zeros_like(rows[m.name]) for m in self._layout.modules if m.block >= lowest_block}
        for block in reversed(range(stop, self._layout.blocks)):
            gradients |= self._backward(given, block, states.pop(), kept.pop(block, None), dy)
        return Gradients(loss.value, {**gradients, HEAD: loss.d_head}, loss.correct)

    def logits(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """See `Engine.logits`."""
        return classify(self.pooled(batch, rows, micro_batch=micro_batch), rows[HEAD])

    def pooled(self, batch: Batch, rows: Rows, *, micro_batch: int) -> Float32:
        """See `Engine.pooled`."""
        given, blocks = self._given(batch, rows, micro_batch), self._layout.blocks
        (hidden,), _ = self._forward(given, blocks, blocks, blocks)
        return self._objective.pooled(hidden.reshape(*batch.input_ids.shape, -1), batch)

    def hidden(self, batch: Batch, rows: Rows, *, blocks: int, micro_batch: int) -> Float32:
        """See `Engine.hidden`."""
        given, none = self._given(batch, rows, micro_batch), self._layout.blocks
        (hidden,), _ = self._forward(given, none, none, blocks)
        return hidden.reshape(*batch.input_ids.shape, -1).copy()

    def give_back(self) -> None:
        """See `Engine.give_back`."""
        self._blocks.give_back()

    def _given(self, batch: Batch, rows: Rows, micro_batch: int) -> _Given:
        check_batch(batch, self._manifest, self._layout.classes)
        check_rows(rows, self._layout)
        if micro_batch < 1:
            raise EngineError(f"a micro-batch holds at least 1 example, got {micro_batch}")
        mask = additive_mask(batch.attention_mask, causal=self._manifest.causal)
        places = positional(self._weights, self._manifest, batch.input_ids.shape[1])
        return _Given(batch, mask, places, rows, micro_batch)

    def _lowest_living(self, rows: Rows, lowest_block: int) -> int:
        """The lowest block that has something to train: the way back ends there."""
        living = (m.block for m in self._layout.modules if m.block >= lowest_block and len(rows[m.name]))
        return min(living, default=self._layout.blocks)

    def _forward(self, given: _Given, stop: int, first_kept: int, end: int) -> tuple[list[Float32], dict[int, _Kept]]:
        """The inputs of the blocks from `stop` to `end`, then the output of the last; what the kept blocks keep."""
        first, x = given.batch.prefix or Prefix(0, self._embed(given))
        states, kept = [x.reshape(-1, self._manifest.d_model)], {}
        for block in range(first, end):
            keep = block >= first_kept
            fixed, outputs = self._expand(given, block, keep), {}
            if keep:
                outputs = self._blocks.kept(block, given.tokens)
                kept[block] = _Kept(fixed, outputs)
            x, y = states[-1], self._state(given, block, stop)
            self._each(given, partial(self._ahead, fixed, x, y, outputs))
            self._blocks.release(block)
            states[-1 if block < stop else len(states) :] = [y]
        return states, kept

    def _embed(self, given: _Given) -> Float32:
        return embed(self._weights, self._manifest, given.batch.input_ids, given.micro_batch)

    def _ahead(self, fixed: Values, x: Float32, y: Float32, outputs: Arrays, part: _Part) -> None:
        self._blocks.forward(fixed, part.feeds(x), y[part.tokens], part.of(outputs))

    def _backward(self, given: _Given, block: int, x: Float32, kept: _Kept | None, dy: Float32) -> Rows:
        """Gradients of the block's living modules. `dy` becomes the gradient of the block's input `x`."""
        fixed = kept.fixed if kept else self._expand(given, block, False)
        ranks = {m.local: len(given.rows[m.name]) for m in self._blocks.modules(block)}

        def pull(part: _Part) -> dict[str, Float32]:
            feeds = part.feeds(x) | {"dy": dy[part.tokens]}
            outputs = part.of(kept.outputs) if kept else self._blocks.again(fixed, feeds)
            dy[part.tokens], gradients = self._blocks.backward(fixed, feeds | outputs, ranks)
            return {name: self._blocks.table(gradient) for name, gradient in gradients.items()}

        sums: dict[str, Float32] = {}
        for gradients in self._pool.map(pull, given.parts()):  # in order, and each is gone once it is added
            for name, gradient in gradients.items():
                sums[name] = sums[name] + gradient if name in sums else gradient
        self._blocks.release(block)
        return {m.name: sums[m.local] for m in self._blocks.modules(block)}

    def _each(self, given: _Given, work: Callable[[_Part], _Result]) -> list[_Result]:
        """What `work` makes of every micro-batch, in order."""
        return list(self._pool.map(work, given.parts()))

    def _expand(self, given: _Given, block: int, keep: bool) -> Values:
        factors = self._blocks.factors(block, given.rows)
        return prepared(self._blocks.weights(block, factors, slot=block if keep else _SHARED, each=self._pool.map))

    def _state(self, given: _Given, block: int, stop: int) -> Float32:
        """Memory for the output of a block: below `stop` two arrays in turn, above it one for each."""
        key = block if block >= stop else block % 2 - 2
        return self._blocks.scratch.array(("state", key), (given.tokens, self._manifest.d_model))


class _Kept(NamedTuple):
    """What a kept block keeps: its effective weights, and what its linear layers put out for the whole batch."""

    fixed: Values
    outputs: Arrays


@dataclass(frozen=True)
class _Given:
    """What a pass works on; `mask` is the additive one, `places` what else depends on positions."""

    batch: Batch
    mask: Float32
    places: Arrays
    rows: Rows
    micro_batch: int

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return self.batch.input_ids.size

    def parts(self) -> Iterator[_Part]:
        """The micro-batches."""
        sequences, length = self.batch.input_ids.shape
        for start in range(0, sequences, self.micro_batch):
            end = min(start + self.micro_batch, sequences)
            yield _Part(slice(start * length, end * length), {"mask": self.mask[start:end], **self.places})


class _Part(NamedTuple):
    """One micro-batch: where its tokens lie, and what the blocks must know of them."""

    tokens: slice
    context: Arrays

    def of(self, arrays: Arrays) -> Arrays:
        """The rows of this micro-batch."""
        return {name: array[self.tokens] for name, array in arrays.items()}

    def feeds(self, x: Float32) -> Arrays:
        """What both graphs take of the micro-batch."""
        return {"x": x[self.tokens], **self.context}
